"""An OpenCV loop that upscales: VideoCapture comes from srfast instead of cv2, and nothing else changes.

Usage: python examples/opencv_loop.py IN.mp4 [FRAMES]
"""

import sys

import cv2

from srfast.opencv import VideoCapture

if len(sys.argv) < 2:
    sys.exit(__doc__)
capture = VideoCapture(sys.argv[1])
if not capture.isOpened():
    sys.exit(f"{sys.argv[1]} is no video that OpenCV can open")
most = int(sys.argv[2]) if len(sys.argv) > 2 else 10
size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
count = 0
while count < most:
    done, frame = capture.read()
    if not done:
        break
    assert frame.shape[:2] == size[::-1]
    count += 1
capture.release()
print(f"{count} frames of {size[0]}x{size[1]}")
