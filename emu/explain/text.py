"""Explanations in sentences, and as JSON."""

from typing import Any

from emu.explain.advice import advice, verdict_sentence
from emu.explain.decide import Answer, Explanation
from emu.explain.gfp import migratetype
from emu.explain.index import fragmentation_index, in_blocks, unusable_index
from emu.explain.words import LISTS, blocks_of, both, kb, zone_name

__all__ = ["as_json", "as_text", "sentence"]

NOT_SAID = {
    "zone": "not asked: the mask allows zones up to {highest}",
    "nodemask": "not asked: node {nid} is not in the nodemask {nodemask}",
    "cpuset": "not asked: node {nid} is not in mems_allowed {mems} of cpuset {cpuset}",
    "empty": "not asked: it manages no page, so it is in no zonelist",
}


def as_text(found: Explanation, source: str) -> list[str]:
    """One report: what was asked, a sentence per zone, the verdict, what would change it."""
    lines = [f"{source}: line {found.dump.line}: {_request(found)}"]
    width = max(len(zone_name(found, answer.zone)) for answer in found.answers)
    for answer in found.answers:
        lines.append(f"  {zone_name(found, answer.zone):{width}}  {sentence(found, answer)}")
    for nid in sorted(found.hidden_nodes):
        why = (
            f"mems_allowed {found.dump.mems_allowed} of cpuset {found.dump.cpuset}" if found.dump.mems_allowed else "it"
        )
        lines.append(f"  {f'Node {nid}':{width}}  not asked: the report leaves it out, since {why} does not allow it")
    lines += [f"  note: {note}" for note in _notes(found)]
    lines.append(f"verdict: {verdict_sentence(found)}")
    lines += [f"would change it: {what}" for what in advice(found)]
    return lines


def _request(found: Explanation) -> str:
    dump = found.dump
    size = f"order {dump.order}" + (f", {1 << dump.order} pages in one block, {kb(dump.page_kb << dump.order)}"
                                    if dump.order else ", one page")  # fmt: skip
    what = "called the OOM killer for" if dump.kind == "oom" else "was refused"
    kernel = f"Linux {dump.kernel}" if dump.kernel else f"a kernel like {found.rules}"
    names = dump.names or "|".join(sorted(found.flags))
    limits = f", nodemask {dump.nodemask}" if dump.nodemask else ""
    return f"{dump.comm} {what} {migratetype(found.flags)} memory ({size}), {dump.mode:#x} {names}{limits}, on {kernel}"


def _notes(found: Explanation) -> list[str]:
    notes = []
    if not found.version_known:
        notes.append(f"no line says which kernel this is: its format is that of {found.rules}")
    if found.unknown:
        notes.append(f"not known and left aside: {' '.join(found.unknown)}")
    if not found.access.watermarks:
        notes.append("the caller may ignore all watermarks (MEMALLOC), so only the free lists can refuse it")
    if "THISNODE" in found.flags:
        notes.append("__GFP_THISNODE: only the caller's own node was asked; the report doesn't say which that is")
    elif len({answer.zone.nid for answer in found.answers}) > 1:
        notes.append("the caller's own node is asked first; the report doesn't say which that is")
    return notes


def sentence(found: Explanation, answer: Answer) -> str:
    """What one zone said, with the numbers."""
    dump = found.dump
    if answer.said in NOT_SAID:
        return NOT_SAID[answer.said].format(
            highest=found.columns[found.highest], nid=answer.zone.nid, nodemask=dump.nodemask, mems=dump.mems_allowed,
            cpuset=dump.cpuset,
        )  # fmt: skip
    if answer.said == "watermark":
        return f"watermark: {_sum(found, answer)}"
    if answer.said == "order":
        return f"no block: {_sum(found, answer)}, but {_blocks(found, answer)}"
    if answer.said == "lists":
        ignored = "no watermark holds for this caller" if not found.access.watermarks else _sum(found, answer)
        return f"no block to take: {ignored}, but {_blocks(found, answer)}"
    if answer.said == "high":
        return f"watermark: min is met now, but the OOM killer's last attempt is at high: {_sum(found, answer, 'high')}"
    if answer.said == "reserve":
        return (
            f"watermark, probably: {_sum(found, answer)}; but this kernel doesn't print the high-atomic reserve, which "
            f"may be up to {kb(answer.hidden_reserve_kb)} here"
        )
    return f"would grant it now: {_sum(found, answer)}{_block_there(found, answer)}"


def _sum(found: Explanation, answer: Answer, mark: str = "min") -> str:
    """The test as an inequality in words: what is free, what counts of it, what is needed."""
    test, page = answer.test, found.dump.page_kb
    assert test is not None
    off = [
        f"{kb(pages * page)} {what}"
        for pages, what in (
            (test.order, f"for order {found.dump.order}"), (test.highatomic, _reserve_name(answer)), (test.cma, "CMA"),
        ) if pages
    ]  # fmt: skip
    text = f"{kb(test.free * page)} free"
    if off:
        text += f" less {' and '.join(off)} = {kb(test.usable * page)}"
    relation = "above" if test.passes else "not above"
    text += f", {relation} {mark} {kb(test.full_mark * page)}"
    if test.mark != test.full_mark:
        text += f" lowered to {kb(test.mark * page)} for {_privilege(found)}"
    if test.reserve:
        total = f" = {kb(test.needed * page)}"
        text += f" + lowmem_reserve[{found.columns[found.highest]}] {kb(test.reserve * page)}{total}"
    return text + _boost(found, answer, mark)


def _boost(found: Explanation, answer: Answer, mark: str) -> str:
    if not answer.boost_kb or answer.test is None:
        return ""
    amount = ("" if answer.boost_printed else "at least ") + kb(answer.boost_kb)
    if answer.test.full_mark * found.dump.page_kb == answer.zone.kb[mark]:
        return f" ({amount} of {mark} is boost)"
    return f" (without a boost of {amount})"


def _reserve_name(answer: Answer) -> str:
    if "free_highatomic" in answer.zone.kb:
        return "free in the high-atomic reserve"
    return "high-atomic reserve" + ("" if "reserved_highatomic" in answer.zone.kb else " (at least)")


def _privilege(found: Explanation) -> str:
    access = found.access
    if access.half and access.quarter:
        return "an atomic request (1/2, and 3/4 of that)"
    return "__GFP_HIGH (1/2)" if access.half else "a request that can't wait (3/4)"


def _blocks(found: Explanation, answer: Answer) -> str:
    zone, order, page = answer.zone, found.dump.order, found.dump.page_kb
    large = in_blocks(zone, order)
    if not large:
        index = fragmentation_index(zone, order)
        text = f"no free block has order {order} or more; the largest are {blocks_of(zone)}"
        if index is not None:
            text += f"; fragmentation index {index / 1000:.3f} (0: too little memory, 1: in pieces)"
        return text
    areas = zip(zone.counts[order:], zone.letters[order:], strict=True)
    found_on = {letter for count, letters in areas for letter in letters if count}
    lists = both([name for letter, name in LISTS.items() if letter in found_on])
    what = f"in blocks of order {order} or more" if order else "of them"
    return (
        f"all {kb(large * page)} {what} are {lists}, which this request can't have; "
        f"unusable index {unusable_index(zone, order, found_on):.3f}"
    )


def _block_there(found: Explanation, answer: Answer) -> str:
    if not found.dump.order:
        return ""
    count = sum(answer.zone.counts[found.dump.order :])
    return f", and {count} free {'block has' if count == 1 else 'blocks have'} order {found.dump.order} or more"


def as_json(found: Explanation) -> dict[str, Any]:
    """Everything, for programs."""
    dump = found.dump
    return {
        "line": dump.line, "kind": dump.kind, "task": dump.comm, "kernel": dump.kernel,
        "rules": found.rules, "version_known": found.version_known, "order": dump.order,
        "gfp": dump.mode, "flags": sorted(found.flags), "unknown_flags": list(found.unknown),
        "migratetype": migratetype(found.flags), "nodemask": dump.nodemask or None, "cpuset": dump.cpuset,
        "mems_allowed": dump.mems_allowed, "highest_zone": found.columns[found.highest], "page_kb": dump.page_kb,
        "zones": [_zone_json(found, answer) for answer in found.answers], "hidden_nodes": sorted(found.hidden_nodes),
        "verdict": {"kind": found.verdict, "sentence": verdict_sentence(found)}, "advice": advice(found),
        "notes": _notes(found),
    }  # fmt: skip


def _zone_json(found: Explanation, answer: Answer) -> dict[str, Any]:
    zone, test, page = answer.zone, answer.test, found.dump.page_kb
    out: dict[str, Any] = {
        "node": zone.nid, "zone": zone.name, "said": answer.said, "sentence": sentence(found, answer),
        "free_kb": zone.kb["free"], "causes": list(answer.causes), "boost_kb": answer.boost_kb,
        "boost_printed": answer.boost_printed, "largest_order": answer.largest,
        "decided_by": "emulator" if answer.model else "table",
    }  # fmt: skip
    if test is not None:
        out |= {
            "usable_kb": test.usable * page, "needed_kb": test.needed * page, "mark_kb": test.mark * page,
            "reserve_kb": test.reserve * page, "highatomic_kb": test.highatomic * page, "cma_kb": test.cma * page,
            "fragmentation_index": fragmentation_index(zone, found.dump.order),
        }  # fmt: skip
    return out
