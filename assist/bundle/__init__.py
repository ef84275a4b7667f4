"""``assist bundle``: everything that a stack needs in one signed archive, for machines without an index.

::

    manifest.json            the list of files, with the stack, platform and lock files they are for
    manifest.json.minisig    the manifest's signature in minisign's format (`minisign -Vm` can check it)
    wheels/ debs/ models/ images/ plugins/     the files, in the manifest's order and nothing else

The archive is a plain tar: wheels, packages, weights and layers are compressed already (zstd saves 0.7 % of a
bundle for target local), and no file grows when unpacked. ``manifest``, ``signatures``, ``archive``,
``install`` and ``paths`` need the standard library only: they run where nothing is installed yet. The other
modules build bundles.
"""
