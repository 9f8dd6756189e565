"""Upscales one region of a picture, exactly as it is in the whole result, at the region's cost.

Usage: python examples/region.py IN.png OUT.png X Y WIDTH HEIGHT
"""

import sys

import cv2

import srfast

if len(sys.argv) != 7:
    sys.exit(__doc__)
source, target, *numbers = sys.argv[1:]
image = cv2.imread(source)
if image is None:
    sys.exit(f"{source} is missing or not a picture")
with srfast.load("compact_x4") as upscaler:
    part = upscaler.upsample(image, roi=tuple(map(int, numbers)))
cv2.imwrite(target, part)
print(f"{part.shape[1]}x{part.shape[0]}")
