"""Frames in the batch: a cloud stands once per frame, and what comes back is averaged."""
