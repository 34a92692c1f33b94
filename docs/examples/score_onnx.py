"""Scores image files with a graph that `insphere export` wrote: python score_onnx.py tiles.onnx photo.png … ; insphere is not needed."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

options = onnxruntime.SessionOptions()
options.log_severity_level = 3  # else the runtime remarks that the threshold has a default
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
height, width, channels = json.loads(session.get_modelmeta().custom_metadata_map["input"])["shape"]
for path in sys.argv[2:]:
    image = ImageOps.exif_transpose(Image.open(path)).convert("L" if channels == 1 else "RGB")
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8).reshape(1, height, width, channels)
    wanted = ["anomaly_score", "p_value", "is_anomaly"]  # and "anomaly_map" of a detector with heat-maps: 1 is the level of normal
    score, p_value, is_anomaly = session.run(wanted, {"images": pixels})  # add "threshold": np.array(3.0) for another threshold
    print(f"{path}\t{score[0]:.6g}\t{p_value[0]:.4g}\t{'anomaly' if is_anomaly[0] else 'normal'}")
