"""The training loop."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from tqdm import tqdm

from ...runtime.denormals import flush_denormals, restore_denormals
from ...runtime.errors import HearloopError
from ..streaming.lookahead import lookahead_price
from .captured import captured
from .checkpoint import read_resumable, write_checkpoint
from .clock import TrainingClock
from .compiled import compile_layers
from .journal import Journal
from .machines import StopRequest, summed
from .moving_average import WeightAverage
from .muon import Muon
from .norms import hold_norms, settle_norms
from .stream import batches
from .tasks import Task
from .validate import means_over_all

# What batch norms hear of the recordings before the first step, where weights are there already.
SETTLING_BATCHES, SETTLING_ITEMS = 8, 4

SHOWN_EVERY = 10  # steps


class Training:
    """Trains the network of a task on simulated items; `run` is called in every process of a group.

    Parameters
    ----------
    task : what is learned, and how it is judged
    out : folder for last.pt (to resume and to export), best.pt (best on validation) and log.csv
    facts : what the checkpoint shall say about the data, a flat dict
    start : weights to begin with, instead of random ones: a function of the new model that fills them in
    tensorboard : write events for it
    """

    def __init__(
        self,
        task: Task,
        out: Path,
        facts: dict[str, Any],
        start: Callable[[nn.Module], object] | None = None,
        tensorboard: bool = False,
    ):
        self.task, self.facts = task, facts
        self.configuration, self.settings = task.configuration, task.configuration.training
        self.out, self.start, self.tensorboard = out, start, tensorboard
        self.step, self.audio_s, self.best_score = 0, 0.0, -math.inf
        self.quality: list[dict[str, Any]] = []
        self.stop, self.clock = StopRequest(), TrainingClock()

    def run(self, fabric: Fabric) -> tuple[int, float]:
        """Train until the budget is spent or a signal (SIGINT, SIGTERM) asks to stop; resumes from last.pt.

        Returns the number of steps and the best score.
        """
        self.fabric, settings = fabric, self.settings
        fabric.seed_everything(settings.seed, verbose=False)
        bare = self.task.build().train()
        resumed = read_resumable(self.out / "last.pt", self._identity())
        start = self.start if resumed is None else None
        self.configuration.check_start(fabric.world_size, has_weights=self.start is not None or resumed is not None)
        if start is not None:
            start(bare)
            bare.train()
        compile_layers(bare, fabric.device.type, rounded=settings.precision != "32-true")
        bare, loss = map(fabric.to_device, (bare, self.task.loss(bare)))
        if start is not None:
            first = self._stream(batch=SETTLING_ITEMS, rank=0, processes=1)  # the same in every process
            settle_norms(bare, lambda items: loss(bare, fabric.to_device(items)), islice(first, SETTLING_BATCHES))
        self.model, self.optimiser = fabric.setup(bare, Muon(bare, settings.learning_rate, settings.weight_decay))
        self.loss = loss
        self.average = WeightAverage(self.model, settings.average_decay)
        if resumed is not None:
            self._resume(resumed)
        self.learn = captured(self._learn, self.optimiser, fabric) if settings.capture else self._learn
        self.journal = Journal(self.out, self.tensorboard) if fabric.is_global_zero else None
        self._listen()
        before = flush_denormals()  # gradients of long recurrences fade to numbers that a CPU is slow with
        try:
            self._loop()
        finally:
            restore_denormals(before)
        return self.step, self.best_score

    def _loop(self) -> None:
        settings, fabric = self.settings, self.fabric
        stream = self._stream(settings.batch, fabric.global_rank, fabric.world_size, settings.workers, settings.repeats)
        losses, logged_step = torch.zeros((), device=fabric.device), self.step
        self.clock.start()
        bar = tqdm(disable=not fabric.is_global_zero, initial=self.step, unit="step", mininterval=5)
        while True:
            self.clock.tick()
            progress, stopped = self._decide()
            if stopped or progress >= 1:
                break
            loss = self._step(fabric.to_device(next(stream)), progress)
            losses += loss
            bar.update()
            if self.step % SHOWN_EVERY == 0:  # to read a number off an accelerator is to wait for it
                self._check(float(losses))
                bar.set_postfix(loss=f"{float(loss):.3f}", progress=f"{100 * progress:.1f}%", refresh=False)
            if self.step % settings.validate_every == 0:
                self._validate(float(losses) / (self.step - logged_step))
                losses, logged_step = torch.zeros_like(losses), self.step
            if self.step % settings.save_every == 0:
                self._save()
        if not stopped and not self._is_judged():
            # Of steps of an earlier part of the run, whose validation was cut off, the loss is not known.
            self._validate(float(losses) / (self.step - logged_step) if self.step > logged_step else math.nan)
        self._save()
        bar.close()

    def _listen(self) -> None:
        """Training mode, but for batch norms that shall keep what they hold."""
        self.model.train()
        if self.settings.hold_norms:
            hold_norms(self.model)

    def _stream(self, batch: int, rank: int, processes: int, workers: int = 0, repeats: int = 1) -> Iterator[Any]:
        """Items from the present step on, those of one of so many processes."""
        return batches(
            self.task.simulator,
            seed=self.settings.seed,
            step=self.step,
            batch=batch,
            samples=self.settings.samples,
            rank=rank,
            processes=processes,
            workers=workers,
            repeats=repeats,
        )

    def _decide(self) -> tuple[float, bool]:
        """The spent part of the budget, and whether to stop: the first process decides for all."""
        news = [self._progress(), float(bool(self.stop))] if self.fabric.is_global_zero else [0.0, 0.0]
        progress, stopped = summed(self.fabric, torch.tensor(news)).tolist()
        return progress, bool(stopped)

    def _step(self, items: Any, progress: float) -> torch.Tensor:
        """One step of the optimiser; returns the loss over the whole batch."""
        # So a run that was interrupted draws what it would have drawn, and each process something else. A seed of torch
        # has 64 bits.
        torch.manual_seed(((self.settings.seed << 40) + (self.step << 8) + self.fabric.global_rank) % 2**63)
        rate = self._learning_rate(progress)
        for group in self.optimiser.param_groups:
            # A recording reads the rate where it was.
            group["lr"] = group["lr"].fill_(rate) if isinstance(group["lr"], torch.Tensor) else rate
        self.loss.progress.fill_(progress)
        mean_loss = self._share_statistics(self.learn(items))
        self.step += 1
        self.audio_s += self.settings.batch * self.settings.seconds
        self.average.update(self.model, self.step)
        return mean_loss

    def _learn(self, items: Any) -> torch.Tensor:
        self.optimiser.zero_grad()
        loss = self.loss(self.model, items)
        loss = loss + self.settings.lookahead_weight * lookahead_price(self.model)
        self.fabric.backward(loss)
        # Whether the norm is finite is seen in the loss: to ask here would be to wait for the accelerator.
        self.fabric.clip_gradients(
            self.model, self.optimiser, max_norm=self.settings.largest_gradient, error_if_nonfinite=False
        )
        self.optimiser.step()
        return loss.detach()

    def _check(self, losses: float) -> None:
        """Raise HearloopError if weights are not numbers any more, which shows in the loss."""
        if not math.isfinite(losses):
            raise HearloopError(f"the loss is {losses} near step {self.step}; expected numbers: try a lower rate")

    def _check_weights(self) -> None:
        """Raise HearloopError rather than judge, or write over what is good, with weights that are no numbers."""
        for name, value in self.average.weights.items():
            if not bool(value.isfinite().all()):
                raise HearloopError(f"{name} is not finite at step {self.step}; expected numbers: try a lower rate")

    def _share_statistics(self, loss: torch.Tensor) -> torch.Tensor:
        """Average the statistics of batch norms over the processes, as DDP does gradients; returns the mean loss."""
        buffers = [buffer for buffer in self.model.buffers() if buffer.is_floating_point()]
        if self.fabric.world_size > 1:
            flat = torch.cat([part.flatten() for part in buffers] + [loss.view(1)])
            flat = summed(self.fabric, flat) / self.fabric.world_size
            for part, mean in zip(buffers, flat[:-1].split([part.numel() for part in buffers]), strict=True):
                part.copy_(mean.view_as(part))
            loss = flat[-1]
        return loss

    def _progress(self) -> float:
        """The spent part of the budget, 0..1."""
        if self.settings.steps > 0:
            return self.step / self.settings.steps
        return self.clock.seconds / (60 * self.settings.minutes)

    def _learning_rate(self, progress: float) -> float:
        """Linear warm-up by steps, then a cosine over the budget."""
        highest, lowest = self.settings.learning_rate, self.settings.last_learning_rate
        cosine = lowest + (highest - lowest) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
        return cosine * min(1.0, (self.step + 1) / max(1, self.settings.warmup_steps))

    def _is_judged(self) -> bool:
        """Whether the weights of the present step were validated, and the best are by the present selection."""
        return self.best_score > -math.inf and self.quality[-1]["step"] == self.step

    def _validate(self, loss: float) -> None:
        self._check_weights()
        live = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average.weights)
        self.model.eval()
        found = means_over_all(self.task.measure(self.model, self.fabric), self.fabric)
        self._listen()
        self.model.load_state_dict(live)
        score = self.configuration.selection.score(found)
        self.quality = [{"test": "part of the validation set", "step": self.step, **found}]
        improved = score > self.best_score
        self.best_score = max(self.best_score, score)
        if self.journal is not None:
            self.journal.write(
                {
                    "step": self.step,
                    "minutes": round(self.clock.seconds / 60, 2),
                    "audio_hours": round(self.audio_s / 3600, 3),
                    "learning_rate": float(self.optimiser.param_groups[0]["lr"]),
                    "loss": round(loss, 4),
                    **{name: round(value, 3) for name, value in found.items()},
                    "score": round(score, 3),
                }
            )
            if improved:
                write_checkpoint(self.out / "best.pt", self._content())

    def _content(self) -> dict[str, Any]:
        facts = {"steps": self.step, "audio_hours": self.audio_s / 3600, "minutes": self.clock.seconds / 60}
        return {
            **self._identity(),
            "weights": {name: value.cpu() for name, value in self.average.weights.items()},
            "training": {**self.facts, **facts, "settings": asdict(self.settings)},
            "quality": self.quality,
        }

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must agree on to be continued."""
        identity: dict[str, Any] = {"model": self.configuration.model, "config": self.configuration.config}
        return {**identity, "parts": self.task.parts} if self.task.parts else identity

    def _save(self) -> None:
        self._check_weights()
        if not self.fabric.is_global_zero:
            return
        resume = {
            "weights": self.model.state_dict(),
            "loss": self.loss.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.clock.seconds,
            "audio_s": self.audio_s,
            "best_score": self.best_score,
            "selection": asdict(self.configuration.selection),
        }
        write_checkpoint(self.out / "last.pt", {**self._content(), "resume": resume})

    def _resume(self, content: dict[str, Any]) -> None:
        resume = content["resume"]
        self.model.load_state_dict(resume["weights"])
        self.loss.load_state_dict(resume.get("loss", {}), strict=False)  # earlier versions kept nothing of it
        self.average.load(content["weights"])
        try:
            self.optimiser.load_state_dict(resume["optimiser"])
        except ValueError as error:
            raise HearloopError(
                f"{self.out / 'last.pt'} was written with another optimiser ({error}); "
                "expected another output folder, and --from this file to take over its weights"
            ) from error
        for group in self.optimiser.param_groups:
            group["lr"] = float(group["lr"])  # a tensor on some device, if it was recorded
        self.step, self.clock.seconds = resume["step"], resume["seconds"]
        # Runs of an earlier version did not count what they heard: as if their items had always been these.
        self.audio_s = resume.get("audio_s", self.step * self.settings.batch * self.settings.seconds)
        selection = asdict(self.configuration.selection)
        # By another selection a score says something else, and one of weights that are not there nothing.
        if resume.get("selection", selection) == selection and (self.out / "best.pt").exists():
            self.best_score = resume.get("best_score", -math.inf)  # the first version chose otherwise: measured anew
        self.quality = content["quality"]
