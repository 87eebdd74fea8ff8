"""Image files: a strict reader of TIFF and PNG, writers, and files that appear whole or not at all.

images.open_stack reads; imagewrite writes; atomic.atomic_path is how every file here is written.
"""
