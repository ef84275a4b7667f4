"""``assist bundle``: everything a stack needs in one signed archive, for machines that reach no index.

::

    manifest.json            what the archive holds, for which stack, platform and lock files
    manifest.json.minisig    its signature (minisign's format: `minisign -Vm` checks it, too)
    wheels/ debs/ models/ images/ plugins/     the files, in the manifest's order and nothing else

A plain tar: wheels, packages, weights and layers are compressed already (zstd saves 0.7 % of a bundle for
target local), and nothing can swell when it is unpacked. ``manifest``, ``signatures``, ``archive`` and
``place`` need the standard library alone: they run where nothing is installed yet. The rest builds bundles.
"""
