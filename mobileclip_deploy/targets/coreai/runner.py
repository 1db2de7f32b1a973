"""Runner of an .aimodel in Apple's own runtime, on the CPU of this machine."""

import asyncio
import importlib.metadata
import threading
import weakref
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.errors import wrapping_runtime_errors
from mobileclip_deploy.targets.coreai.asset import Asset
from mobileclip_deploy.targets.coreai.editing import (
    raise_to_float32,
    restore_weights,
    widen_products,
)
from mobileclip_deploy.targets.quiet import hold_back, quiet
from mobileclip_deploy.targets.values import compute_threads, require_shape


class CoreAIRunner:
    """A loaded function of an .aimodel; one inference per input, since shapes are fixed. It runs as many at once as
    torch would use threads: Apple's runtime computes one inference on one core.

    Weights on grids are restored once, to the same values (a test compares bits); the runtime would do that in every
    inference.

    Args:
        function: of an asset of several.
        plain: compute in float32, with the stored values.
        wide: sum products and convolutions of float16 in float32. It takes a twentieth of the time for nano's text
            tower and half of it for its image tower; for many inputs.
    """

    def __init__(self, path: Path, function: str | None = None, *, plain: bool = False, wide: bool = False) -> None:
        asset = Asset(path)
        graph = asset.function(function)
        self._input, self._output = (side[0][0] for side in asset.named_ports(graph))
        self._name = next(name for name, candidate in asset.functions.items() if candidate == graph)
        changed = restore_weights(asset, whole=plain)
        note = ""
        if plain:
            raise_to_float32(asset)
            note = ", float32"
        elif wide and widen_products(asset):
            note = "; float16 products summed in float32"
        version = importlib.metadata.version("coreai-core")
        self.engine = f"Core AI {version} (Apple's runtime, CPU{note})"
        self._loop = asyncio.new_event_loop()
        resources = AsyncExitStack()
        # In its own thread: a notebook's cells already run in a loop.
        thread = threading.Thread(target=self._loop.run_forever, name="coreai", daemon=True)
        thread.start()
        weakref.finalize(self, _close, self._loop, resources, thread)
        with wrapping_runtime_errors(f"{self.engine} cannot load {path}"), quiet(), hold_back():
            self._function = self._wait(_load(asset, resources, changed or bool(note), self._name))

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        from coreai.runtime import NDArray

        descriptor = self._function.desc.input_descriptor(self._input)
        require_shape(inputs, list(descriptor.shape))
        rows = [row[None] for row in np.ascontiguousarray(inputs, dtype=descriptor.dtype)]
        with wrapping_runtime_errors(f"{self.engine} failed"):
            answers = self._wait(self._answers([NDArray(row) for row in rows]))
        return np.concatenate(answers).astype(np.float32)

    async def _answers(self, values: list[Any]) -> list[npt.NDArray[np.float32]]:
        free = asyncio.Semaphore(compute_threads())

        async def answer(value: Any) -> npt.NDArray[np.float32]:
            async with free:
                answered = await asyncio.shield(self._function({self._input: value}))
                embedding: npt.NDArray[np.float32] = answered[self._output].numpy()
                return embedding

        return await asyncio.gather(*map(answer, values))

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            asyncio.run_coroutine_threadsafe(_idle(), self._loop).result()
            raise


async def _idle() -> None:
    """Waits until the runtime is idle: its threads call back, and abort a process whose Python has ended."""
    while busy := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(busy)


async def _load(asset: Asset, held: AsyncExitStack, changed: bool, function: str) -> Any:
    """Loads a function of an asset, or of its changed copy; `held` keeps its resources as long as it is called."""
    from coreai.authoring import AIModelAsset

    if changed:
        folder = held.enter_context(temporary_folder())
        source = asset.program.save_asset(folder / "changed.aimodel")
    else:
        source = AIModelAsset.load(asset.path)
    model = await asyncio.shield(held.enter_async_context(source.executable()))
    return model.load_function(function)


def _close(loop: asyncio.AbstractEventLoop, held: AsyncExitStack, thread: threading.Thread) -> None:
    asyncio.run_coroutine_threadsafe(held.aclose(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
