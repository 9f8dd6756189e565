"""OpenCV's interfaces on srfast: super resolution, video capture and video writer."""

from srfast.opencv.capture import VideoCapture, VideoWriter
from srfast.opencv.superres import DnnSuperResImpl, DnnSuperResImpl_create

__all__ = ["DnnSuperResImpl", "DnnSuperResImpl_create", "VideoCapture", "VideoWriter"]
