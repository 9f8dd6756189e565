"""What the machine can do at most."""

from benchmarks.ceilings import limits
from benchmarks.record import Ceiling
from benchmarks.sampling import Turns
from benchmarks.session import Begun, Session


def test_ceilings(bench: Session) -> None:
    begun = Begun("ceilings")
    found, missing = limits(bench.device)
    for limit in found:
        limit.run()
    turns = Turns({limit.name: limit.run for limit in found}, bench.clock, bench.gate)
    with bench.gate:
        turns.take(3 * bench.least)
    samples, _ = turns.samples(3 * bench.least)
    ceilings = [Ceiling(c.name, c.unit, [c.work / s for s in samples[c.name]], bench.passes[0]) for c in found]
    bench.add_ceilings(ceilings, missing, begun)
