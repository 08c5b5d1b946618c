"""Fixtures of the tests of the training loop."""

import os

import pytest


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch):
    """Do not wait for the disk: no test here pulls the plug."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
