"""What uses memory: page cache, address spaces, swap, slab, and the way of their pages over the LRU lists.

The rooms above (``emu.compact``, ``emu.reclaim``) take this memory back.
"""
