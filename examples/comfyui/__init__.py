"""ComfyUI finds srfast's nodes here: copy this folder to ComfyUI/custom_nodes/srfast."""

from srfast.comfyui import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
