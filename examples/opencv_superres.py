"""Super resolution by OpenCV's interface. With opencv-contrib only the import line differs:

    from cv2.dnn_superres import DnnSuperResImpl_create

Usage: python examples/opencv_superres.py MODEL.pb ALGORITHM SCALE IN.png OUT.png
"""

import sys

import cv2

from srfast.opencv import DnnSuperResImpl_create

model, algorithm, scale, source, target = sys.argv[1:]
sr = DnnSuperResImpl_create()
sr.readModel(model)
sr.setModel(algorithm, int(scale))
large = sr.upsample(cv2.imread(source))
cv2.imwrite(target, large)
print(f"{sr.getAlgorithm()} x{sr.getScale()}: {large.shape[1]}x{large.shape[0]}")
