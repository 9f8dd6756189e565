"""Upscaling for others: images and video jobs over HTTP (``srfast serve``), and a page in a browser (``srfast ui``)."""
