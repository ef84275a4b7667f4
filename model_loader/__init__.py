"""Downloads models into a store that a server reads; a revision is complete and verified, or absent.

The layout of the store (``store.store``)::

    <store>/<model>/<revision>/     immutable: the files, and manifest.json with size and SHA-256 of each
    <store>/<model>/<revision>.<runtime>-<precision>/   the same revision, converted for a runtime
    <store>/<model>/current[...]    symbolic link to the revision to serve; servers read only through it
    <store>/<model>/previous[...]   symbolic link to the revision that was served before
    <store>/.staging/<plan>/<run>/  files that are being downloaded or converted (``store.staging``)

The order of a publication, each step durable before the next one begins:

1. ``download`` writes each file to a part file in ``.staging``, compares its SHA-256 with the plan's, and
   syncs it.
2. The files are hard-linked into a tree; ``manifest.json`` is written; the files become read-only; the
   folders are synced.
3. The tree is renamed to its revision's name, and the model's folder is synced.
4. ``previous`` is switched to what ``current`` names, then ``current`` to the new revision.

A crash between two steps leaves ``current`` as it was, and the next run continues from the bytes that are
present. Locks only save double work: no step is correct because of a lock.
"""
