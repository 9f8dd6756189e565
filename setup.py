"""Packages and the folder mapping; metadata and tools are in pyproject.toml.

``kernels/`` and ``training/`` lie at the top of the repository but install as ``srfast.kernels`` and
``srfast.training``: as top-level names they would collide with other packages.
"""

from setuptools import find_packages, setup

MAPPED = {"srfast.kernels": "kernels", "srfast.training": "training"}

packages = find_packages(include=["srfast", "srfast.*"])
for name, path in MAPPED.items():
    packages += [name, *(f"{name}.{sub}" for sub in find_packages(path))]

setup(packages=packages, package_dir=MAPPED)
