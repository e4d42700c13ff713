"""The training loop."""

import csv
import math
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from ...runtime.errors import HearloopError
from .. import build
from ..frontend import enhance
from ..simulation.corpus import SAMPLE_RATE
from ..simulation.mixture import Simulator
from ..simulation.validation import ValidationSet
from .average import WeightAverage
from .checkpoint import read_checkpoint, write_checkpoint
from .compiled import compile_layers
from .loss import EnhancementLoss
from .replicas import Replicas
from .validate import validate

LOG_COLUMNS = ("step", "minutes", "audio_hours", "learning_rate", "loss", "si_sdr_improvement_db", "clean_si_sdr_db")


@dataclass(frozen=True)
class Settings:
    """How to train. The run ends after `steps`, or after `minutes` of training if steps is 0."""

    minutes: float = 80.0
    steps: int = 0
    batch: int = 8
    seconds: float = 2.56
    learning_rate: float = 2e-3
    last_learning_rate: float = 2e-5
    warmup_steps: int = 200
    weight_decay: float = 1e-3
    largest_gradient: float = 20.0
    average_decay: float = 0.999
    validate_every: int = 250
    save_every: int = 50
    seed: int = 1

    def __post_init__(self) -> None:
        if self.steps <= 0 and self.minutes <= 0:
            raise HearloopError(f"minutes is {self.minutes} and steps is {self.steps}; expected one above zero")
        if self.batch < 1 or self.seconds < 0.5:
            raise HearloopError(f"batch is {self.batch}, seconds is {self.seconds}; expected at least 1 and 0.5")


class Training:
    """Trains a model on simulated mixtures; `run` is called in every process of a group of replicas.

    Parameters
    ----------
    model_name, config : what `hearloop.models.build` takes
    out : folder for last.pt (to resume and to export), best.pt (best on validation) and log.csv
    facts : what the checkpoint shall say about the data, a flat dict
    """

    def __init__(
        self,
        model_name: str,
        config: dict[str, Any],
        simulator: Simulator,
        validation: ValidationSet,
        out: Path,
        settings: Settings,
        facts: dict[str, Any],
    ):
        self.model_name, self.config, self.facts = model_name, config, facts
        self.simulator, self.validation = simulator, validation
        self.out, self.settings = out, settings
        self.step, self.seconds_before, self.best_db = 0, 0.0, -math.inf
        self.quality: list[dict[str, Any]] = []
        self.stop_asked = False

    def run(self, replicas: Replicas) -> None:
        """Train until the budget is spent or a signal (SIGINT, SIGTERM) asks to stop; resumes from last.pt."""
        self.replicas = replicas
        settings = self.settings
        if settings.batch % replicas.count:
            raise HearloopError(f"batch of {settings.batch} does not divide among {replicas.count} processes")
        torch.manual_seed(settings.seed)
        self.model = compile_layers(build(self.model_name, **self.config)).train()
        self.loss = EnhancementLoss(str(self.model.window))
        self.average = WeightAverage(self.model, settings.average_decay)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
        )
        if (self.out / "last.pt").exists():
            self._resume()
        if replicas.rank == 0:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._ask_to_stop)
        self._loop()

    def _loop(self) -> None:
        settings = self.settings
        started, losses = time.monotonic(), 0.0
        bar = tqdm(disable=self.replicas.rank > 0, initial=self.step, unit="step", mininterval=5)
        logged_step = self.step
        while True:
            self.seconds = self.seconds_before + time.monotonic() - started
            progress = self._decide()
            if progress is None:
                break
            loss = self._step(progress)
            losses += loss
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}", progress=f"{100 * progress:.1f}%", refresh=False)
            if self.step % settings.validate_every == 0:
                self._validate(losses / (self.step - logged_step))
                losses, logged_step = 0.0, self.step
            if self.step % settings.save_every == 0:
                self._save()
        if self.step > logged_step and not self.stop_asked:
            self._validate(losses / (self.step - logged_step))
        self._save()
        bar.close()

    def _decide(self) -> float | None:
        """The spent part of the budget, or None to stop: the first process decides for all."""
        is_first = self.replicas.rank == 0
        news = [self._progress(), float(self.stop_asked)] if is_first else [0.0, 0.0]
        progress, stop = self.replicas.sum(torch.tensor(news, dtype=torch.float64)).tolist()
        self.stop_asked = bool(stop)
        return None if stop or progress >= 1 else progress

    def _step(self, progress: float) -> float:
        """One step of the optimiser; returns the loss over the whole batch."""
        settings, replicas = self.settings, self.replicas
        share = settings.batch // replicas.count
        first = self.step * settings.batch + replicas.rank * share
        length = int(settings.seconds * SAMPLE_RATE) // 128 * 128
        items = torch.from_numpy(self.simulator.items(settings.seed, first, share, length))
        noisy, target = items[:, 0], items[:, 1]

        self.optimiser.zero_grad()
        loss = self.loss(enhance(self.model, noisy[:, None])[:, 0], target, noisy)
        loss.backward()
        mean_loss = self._exchange(loss.detach())
        nn.utils.clip_grad_norm_(self.model.parameters(), settings.largest_gradient)
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate(progress)
        self.optimiser.step()
        self.step += 1
        self.average.update(self.model, self.step)
        return mean_loss

    def _exchange(self, loss: torch.Tensor) -> float:
        """Average gradients and statistics of batch norms over the replicas; returns the mean of the loss."""
        buffers = [buffer for buffer in self.model.buffers() if buffer.is_floating_point()]
        parts = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None] + buffers
        flat = torch.cat([part.flatten() for part in parts] + [loss.view(1)])
        flat = self.replicas.sum(flat) / self.replicas.count
        for part, mean in zip(parts, flat[:-1].split([part.numel() for part in parts]), strict=True):
            part.copy_(mean.view_as(part))
        return float(flat[-1])

    def _progress(self) -> float:
        """The spent part of the budget, 0..1."""
        if self.settings.steps > 0:
            return self.step / self.settings.steps
        return self.seconds / (60 * self.settings.minutes)

    def _learning_rate(self, progress: float) -> float:
        """Linear warm-up by steps, then a cosine over the budget."""
        highest, lowest = self.settings.learning_rate, self.settings.last_learning_rate
        cosine = lowest + (highest - lowest) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
        return cosine * min(1.0, (self.step + 1) / max(1, self.settings.warmup_steps))

    def _validate(self, loss: float) -> None:
        live = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average.weights)
        found = validate(self.model, self.validation, self.replicas)
        self.model.load_state_dict(live)
        row = {
            "step": self.step,
            "minutes": round(self.seconds / 60, 2),
            "audio_hours": round(self._audio_hours(), 3),
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "loss": round(loss, 4),
            **{name: round(value, 3) for name, value in found.items()},
        }
        self.quality = [{"test": "part of the validation set", "step": self.step, **found}]
        improved = found["si_sdr_improvement_db"] > self.best_db
        self.best_db = max(self.best_db, found["si_sdr_improvement_db"])
        if self.replicas.rank == 0:
            self._log(row)
            if improved:
                write_checkpoint(self.out / "best.pt", self._content())

    def _log(self, row: dict[str, Any]) -> None:
        path = self.out / "log.csv"
        is_new = not path.exists()
        with open(path, "a", newline="", encoding="utf-8") as table:
            writer = csv.DictWriter(table, LOG_COLUMNS)
            if is_new:
                writer.writeheader()
            writer.writerow(row)
        tqdm.write("  ".join(f"{name} {value}" for name, value in row.items()))

    def _audio_hours(self) -> float:
        return self.step * self.settings.batch * self.settings.seconds / 3600

    def _content(self) -> dict[str, Any]:
        facts = {"steps": self.step, "audio_hours": self._audio_hours(), "minutes": self.seconds / 60}
        return {
            "model": self.model_name,
            "config": self.config,
            "weights": self.average.weights,
            "training": {**self.facts, **facts, "settings": asdict(self.settings)},
            "quality": self.quality,
        }

    def _save(self) -> None:
        if self.replicas.rank:
            return
        resume = {
            "weights": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "best_db": self.best_db,
        }
        write_checkpoint(self.out / "last.pt", {**self._content(), "resume": resume})

    def _resume(self) -> None:
        content = read_checkpoint(self.out / "last.pt")
        if (content["model"], content["config"]) != (self.model_name, self.config):
            raise HearloopError(
                f"{self.out / 'last.pt'} holds {content['model']!r} with {content['config']}, "
                f"expected {self.model_name!r} with {self.config}; give another output folder"
            )
        resume = content["resume"]
        self.model.load_state_dict(resume["weights"])
        self.average.weights = content["weights"]
        self.optimiser.load_state_dict(resume["optimiser"])
        self.step, self.seconds_before, self.best_db = resume["step"], resume["seconds"], resume["best_db"]
        self.quality = content["quality"]

    def _ask_to_stop(self, *_: Any) -> None:
        self.stop_asked = True
