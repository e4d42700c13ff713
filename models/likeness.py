"""What a listener who knows voices says about the direction of the chosen one."""

import torch
from torch import nn

from .streaming.recurrent import TimeGRU

FEATURES = 8
MEMORY = 16
NEIGHBOURS = 5  # directions that are seen together: somebody is heard in those beside as well, but less
STRESS = 4.0  # brings differences between cosines to about one
OWN = 0.15  # how much counts what the network itself thinks: a listener who knows voices is right more often
LEAST_DB, OF_A_FEATURE_DB = -30.0, 5.0


class FromLikeness(nn.Module):
    """How likely the chosen voice is in a direction, with what is heard there.

    A voice that has said nothing yet is like none, and where nobody speaks a voice is heard all the same, made of the
    others: how alike it is says something where somebody speaks, and after some time. A convolution over neighbouring
    directions and a GRU over time, whose weights all directions share, learn that.

    State: the hidden vector of every direction, [B, directions, 16].
    """

    def __init__(self, directions: int):
        super().__init__()
        self.beside = nn.Conv2d(FEATURES, MEMORY, (1, NEIGHBOURS), padding=(0, NEIGHBOURS // 2))
        self.activation = nn.PReLU(MEMORY)
        self.gru = TimeGRU(MEMORY, MEMORY, directions)
        self.worth = nn.Linear(FEATURES + MEMORY, 1)
        nn.init.zeros_(self.worth.weight)
        nn.init.zeros_(self.worth.bias)

    def initial_state(self, batch: int) -> torch.Tensor:
        return self.gru.initial_state(batch)

    def forward(
        self, heard: torch.Tensor, known: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The score of every direction, [B, T, directions], and the next state.

        Parameters
        ----------
        heard : Tensor [B, T, directions, 3]
            Cosine between the chosen voice and what was heard there lately; how sure that is, 0..1; and how much of the
            sound comes from there, in dB.
        known : Tensor [B, T, directions, 3]
            What the network itself knows: how well the voice there agrees with the chosen one, whether somebody speaks
            there, and how much came from there lately.
        """
        alike, sure, level_db = heard.unbind(-1)
        level_db = level_db.clamp(LEAST_DB, OF_A_FEATURE_DB)
        match, speaks, lately = known.unbind(-1)
        match = OWN * match
        features = torch.stack(
            [
                STRESS * (alike - alike.amax(-1, keepdim=True)),
                STRESS * alike - STRESS / 2,
                STRESS * sure - STRESS / 2,
                (level_db - level_db.amax(-1, keepdim=True)) / OF_A_FEATURE_DB,
                (level_db - LEAST_DB / 3) / (2 * OF_A_FEATURE_DB),
                match,
                speaks,
                lately,
            ],
            dim=-1,
        )
        beside = self.activation(self.beside(features.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        memory, state = self.gru(beside, state)
        return match + speaks + self.worth(torch.cat([features, memory], dim=-1)).squeeze(-1), state
