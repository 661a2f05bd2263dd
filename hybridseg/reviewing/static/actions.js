// What a person can do, by key and by button.

import { byId } from "./view.js";

export function actions(review) {
  const all = {
    accept: { key: "a", about: "Accept", run: () => review.decide("accept") },
    reject: { key: "d", about: "Reject: there is no such object", brief: "Reject", run: () => review.decide("reject") },
    skip: { key: "s", about: "Skip to the next that is not decided", brief: "Skip", run: () => review.next() },
    next: { key: "f", about: "Next in the queue, decided or not", brief: "Next", run: () => review.next(undefined, false) },
    back: { key: "b", about: "Back in the queue", brief: "Back", run: () => review.back() },
    click: { key: "c", about: "Correct the outline by clicking", brief: "Correct", run: () => review.click(review.object) },
    fresh: { key: "n", about: "Add an object by clicking", brief: "Add", run: () => review.click(null) },
    keep: { key: "Enter", about: "Keep the outline that is proposed or edited", brief: "Keep", run: () => review.keep() },
    other: { key: "Tab", about: "Another reading of the clicks, or another place", brief: "Other", run: async () => review.other() },
    unclick: { key: "Backspace", about: "Take back the last click", run: async () => review.clicks.back() },
    leave: { key: "Escape", about: "Leave clicking or drawing; choose nothing", brief: "Leave", run: async () => review.leave() },
    edit: { key: "e", about: "Move the corners by hand", brief: "Corners", run: () => review.edit() },
    square: { key: "r", about: "Shape the outline as the theme does: right angles", brief: "Square", run: () => review.square() },
    draw: { key: "p", about: "Draw a new outline by hand", brief: "Draw", run: () => review.drawNew() },
    split: { key: "x", about: "Split along a line", brief: "Split", run: () => review.split() },
    merge: { key: "m", about: "Merge with those chosen by Shift and click", brief: "Merge", run: async () => review.object && review.act("merge", [review.object, ...review.others]) },
    remove: { key: "Delete", about: "Delete from the map", brief: "Delete", run: () => review.decide("delete") },
    undo: { key: "z", about: "Undo, without limit", brief: "Undo", run: () => review.step("undo"), repeats: true },
    redo: { key: "y", about: "Redo", run: () => review.step("redo"), repeats: true },
    ground: { key: "g", about: "Look a square of ground over for what the map lacks; again: that is done", brief: "Ground", run: () => review.ground() },
    filter: { key: "q", about: "Choose what the queue walks", brief: "Filter", run: async () => review.filter.open() },
    find: { key: "0", about: "Show the object again", run: async () => review.object && review.scene.show(review.object) },
    outlines: { key: "h", about: "Hide or show all outlines", brief: "Outlines", run: () => review.seen.toggle("outlines") },
    heatmap: { key: "t", about: "Show the classifier's heatmap of what is in view", brief: "Heatmap", run: () => review.seen.toggle("heatmap") },
    prompts: { key: "v", about: "Show the prompts found on it: coarse outlines, points on and beside", brief: "Prompts", run: () => review.seen.toggle("prompts") },
    windows: { key: "w", about: "Show the windows in which SAM2 looks at them", brief: "Windows", run: () => review.seen.toggle("windows") },
    help: { key: "?", about: "This page", run: async () => review.keys.page(byId("keys")) },
  };
  review.about.classes.slice(0, 9).forEach(({ name }, number) => {
    all[`class ${name}`] = { key: `${number + 1}`, about: `Class ${name}`, run: () => review.relabel(name) };
  });
  for (const action of Object.values(all)) {
    const { run } = action;
    action.run = () => review.after(run);
  }
  return all;
}
