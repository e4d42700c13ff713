"""What a listener who knows voices says about the direction of the chosen one."""

import torch
from torch import nn

from .streaming.recurrent import TimeGRU

FEATURES = 11
MEMORY = 16
NEIGHBOURS = 5  # directions that are seen together: somebody is heard in those beside as well, but less
RANK = 48  # sums of a voice by which it is known anew
STRESS = 4.0  # brings differences between cosines to about one
USUALLY = 0.6  # about how alike what is heard in a scene is to anybody
OWN = 0.15  # how much counts what the network itself thinks: a listener who knows voices is right more often
LEAST_DB, OF_A_FEATURE_DB = -30.0, 5.0


class FromLikeness(nn.Module):
    """How likely the chosen voice is in a direction, with what is heard there.

    The chosen voice is compared as it is; beyond what the mean of many voices has in common with what is heard, as
    scores of speaker verification are normalised by a cohort (Auckenthaler, Carey and Lloyd-Thomas, "Score
    normalization for text-independent speaker verification systems", 2000); and by a product that is learned.

    A voice that has said nothing yet is like none, and where nobody speaks a voice is heard all the same, made of the
    others: how alike it is says something where somebody speaks, and after some time. A convolution over neighbouring
    directions and a GRU over time, whose weights all directions share, learn that.

    Parameters
    ----------
    directions : int
    embedding : int
        Size of the embedding of a voice.

    State: the hidden vector of every direction, [B, directions, 16].
    """

    def __init__(self, directions: int, embedding: int):
        super().__init__()
        self.usual = nn.Parameter(torch.zeros(embedding))  # the mean of many voices
        self.known_by = nn.Linear(embedding, RANK, bias=False)
        self.heard_as = nn.Linear(RANK, embedding, bias=False)
        self.beside = nn.Conv2d(FEATURES, MEMORY, (1, NEIGHBOURS), padding=(0, NEIGHBOURS // 2))
        self.activation = nn.PReLU(MEMORY)
        self.gru = TimeGRU(MEMORY, MEMORY, directions)
        self.worth = nn.Linear(FEATURES + MEMORY, 1)
        for weight in (self.heard_as.weight, self.worth.weight, self.worth.bias):
            nn.init.zeros_(weight)

    def initial_state(self, batch: int) -> torch.Tensor:
        return self.gru.initial_state(batch)

    def compared(self, voices: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Voices of unit norm [B, turns, embedding, T] against the chosen one [B, embedding]: [B, 3, turns, T].

        How alike they are; how alike any voice is to them; and the product that has learned.
        """
        against = torch.stack([chosen, self.usual.expand_as(chosen), self.heard_as(self.known_by(chosen))], dim=1)
        return (voices.unsqueeze(1) * against[:, :, None, :, None]).sum(3)

    def forward(
        self, heard: torch.Tensor, known: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The score of every direction, [B, T, directions], and the next state.

        Parameters
        ----------
        heard : Tensor [B, T, directions, 5]
            What `compared` says of what was heard there lately; how sure that is, 0..1; and how much of the sound comes
            from there, in dB.
        known : Tensor [B, T, directions, 3]
            What the network itself knows: how well the voice there agrees with the chosen one, whether somebody speaks
            there, and how much came from there lately.
        """
        alike, usual, learned, sure, level_db = heard.unbind(-1)
        level_db = level_db.clamp(LEAST_DB, OF_A_FEATURE_DB)
        match, speaks, lately = known.unbind(-1)
        match = OWN * match
        features = torch.stack(
            [
                STRESS * _below_the_best(alike),
                STRESS * alike - STRESS / 2,
                STRESS * sure - STRESS / 2,
                _below_the_best(level_db) / OF_A_FEATURE_DB,
                (level_db - LEAST_DB / 3) / (2 * OF_A_FEATURE_DB),
                match,
                speaks,
                lately,
                STRESS * _below_the_best(alike - usual),
                STRESS * (usual - USUALLY),
                learned - learned.mean(-1, keepdim=True),
            ],
            dim=-1,
        )
        beside = self.activation(self.beside(features.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        memory, state = self.gru(beside, state)
        return match + speaks + self.worth(torch.cat([features, memory], dim=-1)).squeeze(-1), state


def _below_the_best(values: torch.Tensor) -> torch.Tensor:
    return values - values.amax(-1, keepdim=True)
