"""What power this machine draws and what its electricity emits, by codecarbon's tables; `python -m tasks.energy`.

codecarbon is asked in a process of its own, once for a workspace and its version: it prints, and its look at the
processor starts further processes, which a run with threads is better kept away from.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from pydantic import ValidationError

from models.config import Config
from tasks.console import log
from tasks.workspace import VAR, write_atomically

JOULES = 3.6e6
"""Of one kWh."""
ASKED_WITHIN = 60.0
"""Seconds that codecarbon has to answer."""


class Power(Config):
    """The constants that turn seconds into energy and emissions."""

    processor: str
    """The processor's name."""
    processor_watts: float
    """Power of the processor under full load: its TDP in codecarbon's table, or 4 W a thread where it has none."""
    threads: int
    """Hardware threads among which that power is divided."""
    memory_watts: float
    """Power of the memory, by the number of modules that its size suggests."""
    kg_per_kwh: float
    """CO2 equivalents of a kWh in the country, or of the world's average."""
    codecarbon: str
    """Version of the tables."""

    def kwh(self, seconds: float, processor_seconds: float) -> float:
        """Return the energy of a step in kWh: each thread's share of the TDP while it works, the memory all along.

        That is what codecarbon's tracker reckons for a process where no counter (RAPL) can be read.
        """
        thread = self.processor_watts / self.threads
        return (thread * processor_seconds + self.memory_watts * seconds) / JOULES


@cache
def power(country: str = "") -> Power | None:
    """Return this machine's constants, with those of a country (ISO 3166, three letters) or the world's average.

    None, with a warning, where codecarbon has no answer: a run never fails for want of a figure about it.
    """
    kept = VAR / "energy" / f"{country or 'world'}.json"
    try:
        found = Power.model_validate_json(kept.read_bytes())
        if found.codecarbon == version("codecarbon"):
            return found
    except (OSError, ImportError, ValidationError):
        pass
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tasks.energy", country],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            capture_output=True,
            text=True,
            timeout=ASKED_WITHIN,
            check=True,
        )
        found = Power.model_validate_json(done.stdout.splitlines()[-1])
        write_atomically(kept, found.model_dump_json(indent=1) + "\n")
    except (OSError, subprocess.SubprocessError, ValidationError, IndexError) as error:
        log.warning("energy is not reckoned: codecarbon did not answer (%s)", " ".join(str(error).split())[:200])
        return None
    return found


def countries() -> set[str]:
    """Return the ISO 3166 codes of the countries whose electricity codecarbon knows, without importing it."""
    found = find_spec("codecarbon")
    places = list(found.submodule_search_locations or []) if found else []
    mix = Path(places[0]) / "data" / "private_infra" / "global_energy_mix.json" if places else None
    return set(json.loads(mix.read_text(encoding="utf-8"))) if mix and mix.is_file() else set()


def gpu_kwh(devices: Iterable[str]) -> float | None:
    """Return what graphics cards have used since their driver was loaded, in kWh, by the counter that they hold.

    The difference of two readings is what was used between them, whatever else ran on the same cards.

    Args:
        devices: numbers or UUIDs, as CUDA_VISIBLE_DEVICES takes them; other names have no counter.

    Returns None where one of them does not answer: NVML is missing, or the card is older than Volta.
    """
    cards = [name for name in devices if name.isdigit() or name.startswith("GPU-")]
    if not cards:
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [
            pynvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else pynvml.nvmlDeviceGetHandleByUUID(name)
            for name in cards
        ]
        millijoules = sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles)
    except pynvml.NVMLError:
        return None
    return float(millijoules) / 1000 / JOULES


def _ask(country: str) -> Power:
    """Return codecarbon's answer; it opens no connection and writes no file here."""
    import logging

    import psutil
    from codecarbon.core.cpu import TDP
    from codecarbon.core.emissions import Emissions
    from codecarbon.core.units import Energy
    from codecarbon.external.geography import GeoMetadata
    from codecarbon.external.ram import RAM
    from codecarbon.input import DataSource

    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    processor, one = TDP(), Energy.from_energy(1.0)
    if processor.tdp is None:
        raise ValueError("the processor is unknown, and so is its power")
    return Power(
        processor=processor.model,
        processor_watts=processor.tdp,
        threads=psutil.cpu_count() or 1,
        memory_watts=RAM().total_power().W,
        # An empty code has no energy mix, which codecarbon answers with the world's average.
        kg_per_kwh=Emissions(DataSource()).get_country_emissions(one, GeoMetadata(country_iso_code=country)),
        codecarbon=version("codecarbon"),
    )


if __name__ == "__main__":
    print(_ask(*sys.argv[1:]).model_dump_json())
