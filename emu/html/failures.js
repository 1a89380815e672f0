// Failed allocations and the OOM killer, explained.
function failure(one, i) {
  const head = `${seconds(one.t)}  ${one.text.split("\n")[0]}`;
  const parts = [make("summary", {}, head)];
  if (one.verdict) parts.push(make("p", { class: "verdict" }, one.verdict));
  if (one.lines.length) parts.push(make("h4", {}, "emu explain"), make("pre", { class: "explained" }, one.lines.join("\n")));
  parts.push(make("h4", {}, "The report"), make("pre", {}, one.text));
  return make("details", { id: `failure-${i}` }, ...parts);
}

/** From a mark, a link or the address: open it and go there. */
function openFailure(i) {
  const details = at(`failure-${i}`);
  if (!details) return;
  details.open = true;
  if (location.hash !== `#${details.id}`) location.hash = details.id;
  details.querySelector("summary").focus({ preventScroll: true });
  details.scrollIntoView({ block: "start" });
}

function startFailures() {
  const sum = (name) => data.marks[name].reduce((a, b) => a + b, 0), reports = (kind) => data.incidents.filter((one) => one.kind === kind).length;
  const failed = sum("failed allocation"), told = reports("failure"), killed = sum("OOM kill");
  const list = at("failure-list");
  if (!failed && !killed && !data.incidents.length) return list.replaceChildren(make("p", { class: "good" }, "No allocation failed, and the OOM killer was not called."));
  const quiet = failed > told ? " The others were not: their callers asked for silence (__GFP_NOWARN), or the kernel's rate limit swallowed them." : "";
  list.append(make("p", {}, `${count(failed)} allocations of the workload failed; ${count(told)} failures were reported.${quiet}`));
  if (killed) list.append(make("p", {}, `The OOM killer took ${count(killed)} processes and wrote ${count(reports("oom"))} reports: the kernel's rate limit allows 10 in 5 seconds.`));
  if (data.left_out) list.append(make("p", {}, `${count(data.left_out)} more reports were left out.`));
  const table = make("table", { class: "rows" }, make("thead", {}, make("tr", {}, ...["time", "what", "verdict"].map((name) => make("th", { scope: "col" }, name)))));
  const body = table.appendChild(make("tbody"));
  data.incidents.forEach((one, i) => {
    const link = make("a", { href: `#failure-${i}` }, one.text.split("\n")[0].split(", mode")[0].split(": gfp_mask")[0]);
    link.addEventListener("click", (event) => { event.preventDefault(); openFailure(i); });
    body.append(make("tr", {}, make("td", { class: "time" }, seconds(one.t)), make("td", {}, link), make("td", {}, one.verdict || "")));
  });
  if (data.incidents.length) list.append(make("div", { class: "scroll" }, table), ...data.incidents.map(failure));
}
addEventListener("hashchange", () => openFailure(location.hash.replace("#failure-", "")));
