"""Machine code for 64-bit ARM in an emulator (QEMU), where this machine has one, and a linker for it."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from hearloop.runtime.compiler.machine import assemble
from hearloop.runtime.compiler.target import ARM64

from .machine_run import MachineRun

PROGRAMS = "qemu-aarch64", "aarch64-linux-gnu-gcc"
EMULATOR, LINKER = map(shutil.which, PROGRAMS)

# Holds the constants; then, for every command, takes the memory, runs `step` or `reset` on it, and gives it back, with
# the register that rules denormal numbers as it was set before and after.
RUNNER = r"""
#include <stdio.h>
#include <stdlib.h>
void step(void *, void *);
void reset(void *, void *);
static unsigned long setting(void) { unsigned long now; __asm__ volatile("mrs %0, fpcr" : "=r"(now)); return now; }
int main(int count, char **arguments) {
    size_t size = strtoul(arguments[1], NULL, 10), constant = strtoul(arguments[2], NULL, 10);
    char *memory = aligned_alloc(64, size), *constants = aligned_alloc(64, constant), command;
    if (fread(constants, 1, constant, stdin) != constant) return 1;
    while (fread(&command, 1, 1, stdin) == 1) {
        if (fread(memory, 1, size, stdin) != size) return 1;
        unsigned long settings[2] = {setting(), 0};
        (command == 's' ? step : reset)(memory, constants);
        settings[1] = setting();
        fwrite(memory, 1, size, stdout);
        fwrite(settings, 1, sizeof settings, stdout);
        fflush(stdout);
    }
    return 0;
}
"""
ALIGNMENT = 64


class Emulator:
    """Functions of an object file for ARM that work on `memory`, in a process of its own until `close`."""

    def __init__(self, object_code: bytes, memory: np.ndarray, constants: np.ndarray):
        self.memory = memory
        sizes = [-(-array.nbytes // ALIGNMENT) * ALIGNMENT for array in (memory, constants)]
        self.padding = bytes(sizes[0] - memory.nbytes)
        with tempfile.TemporaryDirectory() as folder:
            code, runner, program = (Path(folder) / name for name in ("step.o", "runner.c", "run"))
            code.write_bytes(object_code)
            runner.write_text(RUNNER)
            subprocess.run([LINKER, "-static", "-o", program, runner, code, "-lm"], check=True)
            command = [EMULATOR, program, *map(str, sizes)]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.process.stdin.write(constants.tobytes() + bytes(sizes[1] - constants.nbytes))
            self.call("reset")  # when it answers, it has read the program, and the folder may go

    def call(self, function: str) -> None:
        self.process.stdin.write(function[0].encode() + self.memory.tobytes() + self.padding)
        self.process.stdin.flush()
        found = self.process.stdout.read(self.memory.nbytes + len(self.padding) + 16)
        self.memory[:] = np.frombuffer(found, np.float32, len(self.memory))
        before, after = np.frombuffer(found[-16:], np.uint64)
        assert before == after, "the setting of denormal numbers was not put back"

    def close(self) -> None:
        self.process.communicate()


class EmulatedRun(MachineRun):
    """A program on an emulated ARM processor; for use in a `with` statement."""

    def __init__(self, program):
        super().__init__(program, ARM64)

    def link(self):
        self.emulator = Emulator(assemble(self.emitted.ir, ARM64), self.memory, self.constants)
        return (lambda *_: self.emulator.call("step")), (lambda *_: self.emulator.call("reset"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.emulator.close()
