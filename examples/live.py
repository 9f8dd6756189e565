"""A camera within a latency: frames that would be late are resized instead, and counted.

Usage: python examples/live.py CAMERA_NUMBER_OR_FILE [FRAMES]
"""

import sys

import cv2

import srfast

if len(sys.argv) < 2:
    sys.exit(__doc__)
source = sys.argv[1]
capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
if not capture.isOpened():
    sys.exit(f"{source} is no camera or video that OpenCV can open")
most = int(sys.argv[2]) if len(sys.argv) > 2 else 20
with srfast.LiveUpscaler("compact_x4", max_latency=0.04) as live:
    for number in range(most):
        done, image = capture.read()
        if not done:
            break
        live.submit(image, number)
        live.read(timeout=1)
print(live.statistics)
