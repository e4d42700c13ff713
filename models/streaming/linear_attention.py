"""Attention whose memory is a running mean of key-value products: its cost does not depend on how long it remembers."""

import torch
from torch import nn

from .state import State

BLOCK = 64


class DecayedLinearAttention(nn.Module):
    """Linear attention with an exponentially decaying memory.

    S_t = a S_(t-1) + (1 - a) k_t v_t^T and y_t = q_t S_t, a = exp(-1 / time_constant): the mean over the past that the
    whole-clip linear attention of Zhao and Ma, "MossFormer", ICASSP 2023, takes over the recording, forgotten slowly. A
    recurrence of constant cost, as in Qin et al., "Lightning Attention-2", 2024.

    Parameters
    ----------
    keys, values : int
        Sizes of keys (and queries) and values.
    time_constant : float
        In frames.

    State: S, [B, keys, values].
    """

    def __init__(self, keys: int, values: int, time_constant: float):
        super().__init__()
        self.keys, self.values = keys, values
        steps = torch.arange(BLOCK + 1, dtype=torch.float64)
        decay = torch.exp(-steps / time_constant)
        lag = torch.arange(BLOCK)[:, None] - torch.arange(BLOCK)[None, :]
        # Row t weighs the frames up to t of a block: matrix products instead of a loop over frames.
        weights = torch.where(lag >= 0, (1 - decay[1]) * decay[lag.clamp(min=0)], 0.0)
        self.register_buffer("decay", decay[1:].float(), persistent=False)
        self.register_buffer("weights", weights.float(), persistent=False)
        self.decay: torch.Tensor
        self.weights: torch.Tensor

    def initial_state(self, batch: int) -> State:
        return self.decay.new_zeros(batch, self.keys, self.values)

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, state: State
    ) -> tuple[torch.Tensor, State]:
        """Queries and keys [B, T, keys], values [B, T, values] -> [B, T, values] and the next state."""
        outputs = []
        for q, k, v in zip(*(each.split(BLOCK, dim=1) for each in (query, key, value)), strict=True):
            frames = q.shape[1]
            if frames == 1:  # the step of a device: one product less
                state = self.decay[0] * state + self.weights[0, 0] * (k.transpose(1, 2) * v)
                outputs.append(q @ state)
                continue
            decay, weights = self.decay[:frames, None], self.weights[:frames, :frames]
            outputs.append((q @ k.transpose(1, 2) * weights) @ v + (q * decay) @ state)
            state = decay[-1] * state + (k * weights[-1][:, None]).transpose(1, 2) @ v
        return torch.cat(outputs, dim=1), state
