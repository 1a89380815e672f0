"""A run as one page that needs no network: ``--report FILE``.

``sample`` looks at a running machine now and then, ``counts`` (compiled) and ``memory_map`` see who has which page,
``incidents`` keeps what the machine reports, ``fragmentation`` has the indices, ``page`` puts it all into ``page.html``
with the scripts and the style sheet that lie beside it.
"""
