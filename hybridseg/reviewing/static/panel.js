// The panel beside the map: the object, what can be done, how far the work is.

import { label } from "./keys.js";

export const SAID = {
  unseen: "not decided", accepted: "accepted", rejected: "rejected", corrected: "corrected", added: "added by hand",
  deleted: "deleted", split: "split", merged: "merged", proposed: "may be missing",
  withdrawn: "taken away by an improvement", declined: "not grouped so",
};
const SHOWN = { kept: "as here", changed: "another outline", removed: "not shown", added: "not in the layer", unknown: "none" };
const percent = (value) => Math.round(100 * value);
const MADE = { refined: "SAM2", coarse: "classifier", clicked: "clicks", drawn: "by hand", given: "as given" };

// A proposal that would take the place of others says so.
function said(one) {
  if (one.verdict !== "proposed" || !one.parents.length) return SAID[one.verdict];
  return one.parents.length > 1 ? `${one.parents.length} objects may be one` : "may be a part of a larger one";
}

export function element(name, values = {}, ...inner) {
  const made = Object.assign(document.createElement(name), values);
  made.append(...inner);
  return made;
}

export function card(at, feature, position, length, colours, metres2, finding) {
  if (!feature) {
    at.replaceChildren(element("h2", {}, "Nothing chosen"), element("p", {}, "Choose an object on the map, go on with the queue, or add what is missing."));
    return;
  }
  const one = feature.properties;
  const swatch = element("i");
  swatch.style.background = colours.get(one.class) ?? "#999";
  const share = (value) => (value === null ? "–" : value.toFixed(2));
  const rows = [
    ["state", said(one) + (one.who && !["unseen", "proposed"].includes(one.verdict) ? `, ${one.who}` : "")],
    ["outline", MADE[one.origin] ?? one.origin],
    ["score", share(one.score)],
    ["agreement", share(one.agreement)],
    ["SAM2's estimate", share(one.iou_pred)],
    ["area", `${metres2.toLocaleString("en", { maximumFractionDigits: metres2 < 100 ? 1 : 0 })} m²`],
  ];
  if (finding?.said) rows.push(["imagery", finding.said === "moved" ? `${finding.shift_m.toFixed(1)} m away` : SHOWN[finding.said]]);
  const list = element("dl");
  rows.forEach(([what, value]) => list.append(element("dt", {}, what), element("dd", {}, value)));
  const place = position === null ? "" : `${(position + 1).toLocaleString("en")} of ${length.toLocaleString("en")}`;
  at.replaceChildren(element("h2", {}, swatch, one.class, element("b", {}, place)), element("p", {}, one.id), list);
}

// What learning found: a line, and what can be done about it.
export function learning(at, job, does) {
  const button = (name, text, primary) => {
    const made = element("button", { onclick: does[name] }, text);
    made.dataset.teach = name;
    if (primary) made.setAttribute("aria-pressed", "true");
    return made;
  };
  if (job.state === "running") {
    const far = job.total ? `: ${job.sweep}, ${job.done} of ${job.total}` : "";
    at.replaceChildren(element("p", {}, `${job.kind === "improve" ? "Learning from the decisions" : "Looking for what is missing"}${far}…`), button("forget", "Stop"));
  } else if (job.state === "ready") {
    const count = (number) => number.toLocaleString("en");
    const found = job.kind === "propose" ? `${count(job.new - job.regrouped)} objects may be missing, ${count(job.regrouped)} may stand for others as a union or a part; agreed to, they come into the queue.`
      : `Of what nobody has decided on, ${count(job.new)} would be new, ${count(job.gone)} would go, ${count(job.changed)} would change; ${count(job.kept)} stay.`;
    const rows = [element("p", {}, found)];
    if (job.new + job.gone + job.changed) {
      const legend = element("div", { className: "legend" });
      for (const what of ["new", "gone", "changed"]) if (job[what]) legend.append(element("span", {}, element("i", { className: what }), what));
      rows.push(legend, button("agree", job.kind === "propose" ? "Put into the queue" : "Agree", true));
    }
    at.replaceChildren(...rows, button("forget", "Leave as it is"));
  } else {
    const said = job.error ? [element("p", {}, job.error)] : [];
    at.replaceChildren(...said, button("improve", "Improve"), button("propose", "Find what is missing"));
  }
}

export function buttons(at, keys, groups, pressed, disabled) {
  at.replaceChildren();
  groups.forEach((names, number) => {
    if (number) at.append(element("div", { className: "group" }));
    for (const name of names) {
      const { about, brief, run } = keys.actions[name];
      const made = element("button", { title: about, onclick: (event) => (event.currentTarget.blur(), run()), disabled: disabled.has(name) });
      made.append(element("kbd", {}, label(keys.of(name))), brief ?? about);
      made.dataset.does = name;
      if (pressed.has(name)) made.setAttribute("aria-pressed", "true");
      at.append(made);
    }
  });
}

export function progress(at, { counts, audit, a_minute }, left_off, classes) {
  const of = (name) => counts[name] ?? 0;
  const kept = of("accepted");
  const corrected = of("corrected");
  const gone = of("rejected") + of("deleted");
  const left = of("unseen");
  const seen = kept + corrected + gone;
  const all = seen + left || 1;
  const meter = element("div", { className: "meter", title: `${left} of ${all} not decided` });
  for (const part of [kept, corrected, gone]) {
    const bar = element("i");
    bar.style.width = `${(100 * part) / all}%`;
    meter.append(bar);
  }
  const list = element("dl");
  const share = (part) => (seen ? `${part.toLocaleString("en")} (${percent(part / seen)} %)` : "0");
  const rows = [["seen", seen.toLocaleString("en")], ["accepted unchanged", share(kept)], ["corrected", share(corrected)], ["rejected", share(gone)], ["added", of("added")], ["proposed", of("proposed")], ["left", left.toLocaleString("en")]].filter(([what, count]) => count || what !== "proposed");
  rows.forEach(([what, count]) => list.append(element("dt", {}, what), element("dd", {}, `${count}`)));
  if (a_minute) list.append(element("dt", {}, "a minute"), element("dd", {}, a_minute.toFixed(1)));
  const range = ({ low, high }) => `95 %: ${percent(low)} to ${percent(high)}`;
  const { recall } = audit;
  const precise = audit.seen
    ? `Precision of the map as it came: ${percent(audit.right / audit.seen)} % (${range(audit)}), of ${audit.seen} drawn at random.`
    : `Each ${audit.each}th of the queue is drawn at random; they will tell the map's precision.`;
  const recalled = recall.share !== null
    ? `Recall: ${percent(recall.share)} % (${range(recall)}), by squares of ground drawn at random: ${recall.squares} looked over, ${Math.round(recall.missing)} missing in them.`
    : recall.squares ? "Recall will be told when an object drawn at random is decided, too." : "Squares of ground drawn at random, looked over, will tell its recall.";
  const said = [precise, recalled].map((text, k) => element("p", { id: k ? "recall" : "audit" }, text));
  const legend = element("div", { className: "legend" });
  legend.style.setProperty("--mark", classes[0]?.colour ?? "#999");
  for (const [kind, name] of [["", "not decided"], ["full", "decided"], ["dash", "coarse"]]) legend.append(element("span", {}, element("i", { className: kind }), name));
  const more = left_off ? [element("p", {}, `${left_off.toLocaleString("en")} small ones are not shown: zoom in.`)] : [];
  at.replaceChildren(meter, list, ...said, ...more, legend);
}
