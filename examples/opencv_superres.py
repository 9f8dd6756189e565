"""Super resolution by OpenCV's interface. With opencv-contrib only the import line differs:

    from cv2.dnn_superres import DnnSuperResImpl_create

Usage: python examples/opencv_superres.py MODEL.pb ALGORITHM SCALE IN.png OUT.png
"""

import sys

import cv2

from srfast.opencv import DnnSuperResImpl_create

if len(sys.argv) != 6:
    sys.exit(__doc__)
model, algorithm, scale, source, target = sys.argv[1:]
image = cv2.imread(source)
if image is None:
    sys.exit(f"{source} is missing or not a picture")
sr = DnnSuperResImpl_create()
sr.readModel(model)
sr.setModel(algorithm, int(scale))
large = sr.upsample(image)
cv2.imwrite(target, large)
print(f"{sr.getAlgorithm()} x{sr.getScale()}: {large.shape[1]}x{large.shape[0]}")
