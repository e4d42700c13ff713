"""From LLVM's language to machine code, and from machine code to functions that can be called."""

import ctypes

import llvmlite.binding as llvm

from ..errors import EngineError
from .target import Target

OPTIMISATION = 2


def _machine(target: Target) -> llvm.TargetMachine:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(target.triple or llvm.get_process_triple()).create_target_machine(
        cpu=target.cpu, features=target.features, opt=OPTIMISATION, reloc="pic", codemodel="default"
    )


def assemble(ir: str, target: Target) -> bytes:
    """Optimise and translate a module; returns an object file.

    Raises
    ------
    EngineError
        If LLVM does not accept the module: a fault of the compiler.
    """
    machine = _machine(target)
    try:
        module = llvm.parse_assembly(ir)
        module.verify()
    except RuntimeError as error:
        raise EngineError(f"the compiler wrote a module that LLVM refuses: {error}") from error
    options = llvm.create_pipeline_tuning_options(speed_level=OPTIMISATION)
    options.loop_vectorization = options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return bytes(machine.emit_object(module))


class LoadedCode:
    """Functions of an object file, in memory; they live as long as this object."""

    def __init__(self, object_code: bytes):
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.load_library_permanently("")  # the C library's functions: memcpy, sinf
        machine = llvm.Target.from_default_triple().create_target_machine(reloc="pic")
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(object_code))
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        """Address of a function; EngineError if it is not there."""
        address = self._engine.get_function_address(name)
        if not address:
            raise EngineError(f"the machine code has no function {name!r}")
        return int(address)

    def function(self, name: str, *arguments: type) -> "ctypes._FuncPointer":
        """The function for ctypes, without result."""
        return ctypes.CFUNCTYPE(None, *arguments)(self.address(name))


def load(object_code: bytes) -> LoadedCode:
    """Make the functions of an object file callable."""
    return LoadedCode(object_code)
