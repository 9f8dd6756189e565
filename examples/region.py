"""Upscales one region of a picture, exactly as it is in the whole result, at the region's cost.

Usage: python examples/region.py IN.png OUT.png X Y WIDTH HEIGHT
"""

import sys

import cv2

import srfast

source, target, *numbers = sys.argv[1:]
with srfast.load("compact_x4") as upscaler:
    part = upscaler.upsample(cv2.imread(source), roi=tuple(map(int, numbers)))
cv2.imwrite(target, part)
print(f"{part.shape[1]}x{part.shape[0]}")
