"""Modules that travel with their models."""

from __future__ import annotations

import torch
from torch import nn


class Branching(nn.Module):
    """Takes another way where its rows ask for it, which no exported program can follow."""

    def __init__(self, width: int = 4, hidden: int = 3) -> None:
        super().__init__()
        self.init_args = {"width": width, "hidden": hidden}
        self.first = nn.Linear(width, hidden)
        self.last = nn.Linear(hidden, 1)
        self.register_buffer("count", torch.tensor(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = torch.relu(self.first(x))
        if x.sum() > 0:
            made = made + int(self.count)
        return self.last(made)
