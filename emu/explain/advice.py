"""The verdict in one sentence, and what would have made it another."""

from emu.explain.decide import Answer, Explanation
from emu.explain.index import fragmentation_index
from emu.explain.words import both, kb, zone_name

__all__ = ["advice", "verdict_sentence"]

COSTLY_ORDER = 3
EXTFRAG = 500  # vm.extfrag_threshold: above it, compaction helps more than reclaim
BOOST_SINCE = (5, 0)
SMALL = 10  # a zone is small below this part of the memory that was asked
RETRY = f"__GFP_RETRY_MAYFAIL: above order {COSTLY_ORDER} the kernel gives up early without it"


def verdict_sentence(found: Explanation) -> str:
    """All zones together."""
    return _VERDICTS[found.verdict](found)


def _names(found: Explanation, said: str) -> str:
    return both([zone_name(found, answer.zone) for answer in found.asked if answer.said == said])


def _are(found: Explanation, said: str, one: str, many: str) -> str:
    return one if sum(answer.said == said for answer in found.asked) == 1 else many


def _nowhere(found: Explanation) -> str:
    limit = found.columns[found.highest]
    why = {answer.said for answer in found.answers}
    if why <= {"zone", "empty"}:
        return f"no zone to take it from: the mask stops at {limit}, and no zone up to there has memory"
    return "no zone to take it from: the nodemask and the cpuset leave none"


def _passes(found: Explanation) -> str:
    where = _names(found, "passes")
    cause = "pages came free, or a watermark boost ended," if found.version >= BOOST_SINCE else "pages came free"
    return f"it would be granted now, in {where}: {cause} between the refusal and the report"


def _high(found: Explanation) -> str:
    return (
        f"short of memory: {_names(found, 'high')} {_are(found, 'high', 'is', 'are')} above min again, but not above "
        "high, which the last attempt before a kill asks for"
    )


def _reserve(found: Explanation) -> str:
    return f"short of memory in {_names(found, 'reserve')}, if the high-atomic reserve there is as large as it may be"


def _order(found: Explanation) -> str:
    text = (
        f"fragmented: {_names(found, 'order')} {_are(found, 'order', 'has', 'have')} the pages, but no block of order "
    )
    text += f"{found.dump.order} for this request"
    others = _names(found, "watermark") if any(answer.said == "watermark" for answer in found.asked) else ""
    return text + (f"; {others} {_are(found, 'watermark', 'is', 'are')} at the watermark" if others else "")


def _lists(found: Explanation) -> str:
    return (
        f"{_names(found, 'lists')} {_are(found, 'lists', 'has', 'have')} free pages, and the watermark lets this "
        "request have them, but all are on lists that it can't be served from"
    )


def _watermark(found: Explanation) -> str:
    count = len(found.asked)
    where = {1: "the only zone", 2: "both zones"}.get(count, f"all {count} zones")
    base = f"short of memory: {where} that the request may use {'is' if count == 1 else 'are'} at the watermark"
    above, own = sum(a.zone.kb["free"] for a in open_above(found)), sum(a.zone.kb["free"] for a in found.asked)
    if above > 4 * own:
        base += f", while {kb(above)} are free above {found.columns[found.highest]}, where its mask doesn't let it go"
    causes = [f"{_CAUSES[cause]} ({both(zones)})" for cause, zones in _blamed(found).items()]
    return base + (f"; it would be granted without {' or without '.join(causes)}" if causes else "")


def _blamed(found: Explanation) -> dict[str, list[str]]:
    """Cause -> the zones where it alone decided; not of small zones, from which hardly anything could be taken."""
    total = sum(answer.zone.kb.get("managed", 0) for answer in found.asked)
    blamed: dict[str, list[str]] = {}
    for cause in ("boost", "cma", "highatomic", "reserve"):
        for answer in found.asked:
            if cause in answer.causes and answer.zone.kb.get("managed", 0) * SMALL >= total:
                blamed.setdefault(cause, []).append(zone_name(found, answer.zone))
    return blamed


_VERDICTS = {
    "nowhere": _nowhere, "passes": _passes, "high": _high, "reserve": _reserve, "order": _order, "lists": _lists,
    "watermark": _watermark,
}  # fmt: skip
_CAUSES = {
    "boost": "the watermark boost", "cma": "CMA, which only movable requests can have",
    "highatomic": "the high-atomic reserve", "reserve": "lowmem_reserve",
}  # fmt: skip


def advice(found: Explanation) -> list[str]:
    """What would change the verdict, most direct first."""
    kind, lines = found.verdict, []
    if kind in ("order", "lists", "watermark", "reserve", "high"):
        lines += _smaller(found)
    if kind == "order":
        lines += _compaction(found)
    if kind in ("watermark", "reserve", "high"):
        lines += _causes(found) + _wider(found) + _more(found)
    if kind == "lists":
        lines += _lists_advice(found)
    if kind == "nowhere":
        lines += _wider(found)
    if kind == "passes":
        lines += _later(found)
    return lines


def _smaller(found: Explanation) -> list[str]:
    best = max(found.asked, key=lambda answer: answer.largest)
    if not 0 <= best.largest < found.dump.order:
        return []
    size = kb(found.dump.page_kb << best.largest)
    where = zone_name(found, best.zone)
    return [f"order {best.largest} ({size}) or less: {where} grants that (kvmalloc() is content with single pages)"]


def _compaction(found: Explanation) -> list[str]:
    order = found.dump.order
    fragmented = [a for a in found.asked if a.said == "order" and (fragmentation_index(a.zone, order) or 0) > EXTFRAG]
    lines = []
    if fragmented and "DIRECT_RECLAIM" not in found.flags:
        lines.append("a caller that may wait: without direct reclaim nothing is compacted for it")
    elif fragmented:
        where = both([zone_name(found, answer.zone) for answer in fragmented])
        lines.append(f"compaction of {where}: echo 1 > /proc/sys/vm/compact_memory, before the block is needed")
        if "NORETRY" in found.flags:
            lines.append("no __GFP_NORETRY: the caller asked for one light attempt only")
        elif order > COSTLY_ORDER and "RETRY_MAYFAIL" not in found.flags:
            lines.append(RETRY)
    return lines


def _causes(found: Explanation) -> list[str]:
    blamed, lines = _blamed(found), []
    if "boost" in blamed:
        lines.append(
            "vm.watermark_boost_factor=0, which turns off the boost that the watermarks get when blocks are fragmented"
        )
    if "cma" in blamed:
        lines.append("a smaller CMA area (cma= or the device tree), or __GFP_MOVABLE if the pages can be moved")
    if "highatomic" in blamed:
        lines.append("waiting: reclaim that gets nowhere gives the high-atomic reserve back; GFP_ATOMIC may use it")
    if "reserve" in blamed:
        lines.append("a larger vm.lowmem_reserve_ratio: lower zones keep less from requests that could go higher")
    return lines


def _more(found: Explanation) -> list[str]:
    asked = [answer.zone for answer in found.asked]
    if "DIRECT_RECLAIM" not in found.flags:
        low = [a for a in found.answers if a.zone.name not in ("HighMem", "Movable")]
        now = sum(answer.zone.kb["min"] - answer.boost_kb for answer in low)
        lines = [
            f"a larger vm.min_free_kbytes (now about {now}): kswapd then begins earlier, and this caller can't wait"
        ]
        cache = sum(zone.kb.get("inactive_file", 0) + zone.kb.get("active_file", 0) for zone in asked)
        if cache > sum(zone.kb["free"] for zone in asked):
            lines.append(f"a caller that may wait (GFP_KERNEL): these zones hold {kb(cache)} of page cache")
        return lines
    swap = found.dump.swap
    if swap.get("total") == 0:
        anon = sum(zone.kb.get("inactive_anon", 0) + zone.kb.get("active_anon", 0) for zone in asked)
        return [f"swap: there is none, so {kb(anon)} of anonymous memory in these zones have to stay"] if anon else []
    if swap.get("free", 1) * 50 < swap.get("total", 0):
        return [f"more swap: {kb(swap['free'])} of {kb(swap['total'])} are left"]
    return []


def open_above(found: Explanation) -> list[Answer]:
    """Zones beyond the request's mask that are above their high watermark."""
    return [a for a in found.answers if a.said == "zone" and a.zone.kb["free"] > a.zone.kb["high"]]


def _wider(found: Explanation) -> list[str]:
    lines = []
    if above := open_above(found):
        where = both([f"{zone_name(found, a.zone)} ({kb(a.zone.kb['free'])} free)" for a in above])
        limits = [f"no __GFP_{bit}" for bit in ("DMA", "DMA32") if bit in found.flags]
        lines.append(f"{(limits or ['__GFP_HIGHMEM, or a 64-bit kernel'])[0]}: that opens {where}")
    if any(a.said in ("nodemask", "cpuset") for a in found.answers) or found.hidden_nodes:
        lines.append("a wider nodemask or cpuset")
    return lines


def _lists_advice(found: Explanation) -> list[str]:
    letters = {letter for a in found.asked if a.said == "lists" for text in a.zone.letters for letter in text}
    lines = []
    if "H" in letters and (5, 9) > found.version >= (4, 7):
        lines.append("Linux 5.9: before it, single pages were handed out until only the high-atomic reserve was left")
    elif "H" in letters and (6, 12) > found.version >= (5, 9) and found.dump.order == 0:
        lines.append(
            "Linux 6.12: from there on, atomic requests for single pages are served from the high-atomic reserve"
        )
    if "C" in letters:
        lines.append("__GFP_MOVABLE, or a smaller CMA area")
    return lines + _more(found)


def _later(found: Explanation) -> list[str]:
    if found.dump.order > COSTLY_ORDER and "RETRY_MAYFAIL" not in found.flags:
        return [RETRY]
    return ["nothing in the amounts: look at what happened between the refusal and the report"]
