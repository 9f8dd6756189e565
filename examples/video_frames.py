"""Goes through the upscaled frames of a video while the next ones are decoded.

Usage: python examples/video_frames.py IN.mp4 [FRAMES]
"""

import itertools
import sys

import srfast

if len(sys.argv) < 2:
    sys.exit(__doc__)
most = int(sys.argv[2]) if len(sys.argv) > 2 else 5
frames = srfast.iter_video(sys.argv[1], "compact_x4")
try:
    for frame in itertools.islice(frames, most):
        print(frame.index, f"{float(frame.time):.3f}", frame.image.shape)
except srfast.SrfastError as error:  # such as no video of that name
    sys.exit(str(error))
frames.close()
