// What the bar says: what can be done now. A name of an action in braces stands for its key.

import { SAID } from "./panel.js";

// About an object that imagery does not show as the layer has it.
const FOUND = {
  moved: "Imagery shows it elsewhere: {keep} moves it there, {other} its own outline, {accept} leaves it where it is.",
  changed: "Imagery shows another outline: {keep} takes it, {accept} leaves it as it is.",
  removed: "Imagery does not show it: {reject} rejects it, {accept} keeps it.",
  added: "The layer lacks this one: {accept} adds it, {reject} rejects it.",
};

export function hint(review) {
  const key = (text, name) => (name in review.keys.actions ? review.keyOf(name) : text);
  return (review.drawing.active ? drawing(review) : review.clicks.active ? clicking(review) : looking(review)).replace(/\{(\w+)\}/g, key);
}

function drawing({ drawing: { edited, mode } }) {
  if (edited) return "Drag corners and midpoints; right click deletes a corner. {keep} keeps, {leave} leaves.";
  if (mode === "line") return "Click on one side of it, then on the other; the last point again, or Enter, cuts it along that line. {leave} leaves.";
  return "Click from corner to corner; click the last one again, or Enter, to end. {leave} leaves.";
}

function clicking({ clicks, square, class: name }) {
  if (clicks.drafted) return "As the classifier sees it; SAM2 is looking…";
  if (clicks.current) {
    const which = clicks.candidates.length > 1 ? ` (${clicks.chosen + 1} of ${clicks.candidates.length}, {other} for another)` : "";
    const cut = clicks.current.cut ? " It reaches further than could be looked at." : "";
    return `{keep} keeps this${which}. Right click beside the object takes ground away.${cut}`;
  }
  if (clicks.points.length || clicks.box) return "Looking…";
  if (square) return `This square was drawn at random: click on each ${name} that the map lacks in it, then {ground}. {leave} leaves.`;
  return `${clicks.object ? "Click on the object" : `Click on a ${name} that is missing`}, or drag a box with Shift. Right click marks what is beside it.`;
}

function looking({ object, others, finding, seen }) {
  if (others.length) return `${others.length + 1} chosen: {merge} merges them.`;
  const one = object?.properties;
  if (!one) return "{skip} goes on with the queue, {fresh} adds an object. {help} shows all keys.";
  if (!one.open) return `It is not on the map: ${SAID[one.verdict]}. {undo} undoes the last action, {skip} goes on.`;
  if (["unseen", "proposed"].includes(one.verdict) && FOUND[finding?.said]) return FOUND[finding.said];
  if (one.verdict === "proposed" && one.parents.length > 1) return "{accept} puts it in the place of its parts, {reject} leaves them as they are.";
  if (one.verdict === "proposed" && one.parents.length) return "{accept} puts it on the map and takes the larger one away, {reject} leaves that.";
  if (one.verdict === "proposed") return "The map may lack this one: {accept} adds it, {reject} says that nothing is there.";
  if (seen.asking) return "Classifying what is in view…";
  return "{accept} accepts, {reject} rejects, {click} corrects, {fresh} adds. {help} shows all keys.";
}
