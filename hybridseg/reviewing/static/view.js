// What the review shows beside the map's objects: card, buttons, hints, progress, messages.

import { download, get } from "./api.js";
import * as panel from "./panel.js";

export const byId = (id) => document.getElementById(id);

// What to do about an object that imagery does not show as the layer has it.
const TOLD = {
  moved: "Imagery shows it elsewhere: Enter moves it there, Tab its own outline, A leaves it where it is.",
  changed: "Imagery shows another outline: Enter takes it, A leaves it as it is.",
  removed: "Imagery does not show it: D rejects it, A keeps it.",
  added: "The layer lacks this one: A adds it, D rejects it.",
};

export class View {
  shown() {
    const one = this.object;
    panel.card(byId("card"), one, this.position, this.about.queue, this.colours, one ? area(one.geometry) * (this.place.metres / this.place.unit) ** 2 : 0, this.finding);
    const groups = [["accept", "reject", "skip", "back"], ["click", "fresh", "keep", "other"], ["ground", "filter"], ["edit", "square", "split", "merge", "draw", "remove"], ["undo", "redo"]];
    const pressed = new Set(this.square ? ["ground"] : this.clicks.active ? [this.clicks.object ? "click" : "fresh"] : []);
    const disabled = new Set();
    if (!one?.properties.open) ["accept", "reject", "click", "edit", "square", "split", "remove"].forEach((name) => disabled.add(name));
    if (!this.others.length) disabled.add("merge");
    if (!this.clicks.current && !this.drawing.edited && !this.proposal) disabled.add("keep");
    if (this.clicks.candidates.length < 2 && !(this.proposal && this.finding.places.length > 1)) disabled.add("other");
    panel.buttons(byId("does"), this.keys, groups, pressed, disabled);
    byId("hint").textContent = this.hint();
  }

  hint() {
    const { clicks } = this;
    if (this.drawing.edited) return "Drag corners and midpoints; right click deletes a corner. Enter keeps, Esc leaves.";
    if (this.drawing.active) return "Click from corner to corner; click the last one again, or Enter, to end. Esc leaves.";
    if (clicks.drafted) return "As the classifier sees it; SAM2 is looking…";
    if (this.square && !clicks.current && !clicks.points.length) return `This square was drawn at random: click on each ${this.class} that the map lacks in it, then ${this.keyOf("ground")}. Esc leaves.`;
    const said = this.finding?.said;
    if (!clicks.active && !this.others.length && ["unseen", "proposed"].includes(this.object?.properties.verdict) && TOLD[said]) return TOLD[said];
    if (!clicks.active && !this.others.length && this.object?.properties.verdict === "proposed" && this.object.properties.parents.length) return this.object.properties.parents.length > 1 ? "A puts it in the place of its parts, D leaves them as they are." : "A puts it on the map and takes the larger one away, D leaves that.";
    if (!clicks.active) return this.others.length ? `${this.others.length + 1} chosen: M merges them.` : "A accepts, D rejects, C corrects, N adds. ? shows all keys.";
    if (clicks.current) {
      const which = clicks.candidates.length > 1 ? ` (${clicks.chosen + 1} of ${clicks.candidates.length}, Tab for another)` : "";
      const cut = clicks.current.cut ? " It reaches further than could be looked at." : "";
      return `Enter keeps this${which}. Right click beside the object takes ground away.${cut}`;
    }
    if (clicks.points.length || clicks.box) return "Looking…";
    return `${clicks.object ? "Click on the object" : `Click on a ${this.class} that is missing`}, or drag a box with Shift. Right click marks what is beside it.`;
  }

  proposed(busy = false) {
    this.dot(busy ? "busy" : "ready");
    if (!busy && !this.clicks.candidates.length && (this.clicks.points.length || this.clicks.box)) this.tell("Nothing was found there: click elsewhere on it, or drag a box.");
    this.shown();
  }

  dot(state) {
    byId("dot").dataset.state = state;
    byId("dot").title = { ready: "what is in view is encoded", busy: "looking", lost: "no answer from the server" }[state];
  }

  scale() {
    const metres = 90 * this.scene.metresPerPixel;
    const power = 10 ** Math.floor(Math.log10(metres));
    const length = [5, 2, 1].find((step) => step * power <= metres) * power;
    byId("scale").querySelector("i").style.width = `${length / this.scene.metresPerPixel}px`;
    byId("scale").querySelector("span").textContent = length >= 1000 ? `${length / 1000} km` : `${length} m`;
  }

  async refresh() {
    this.progress = await get("/api/progress");
    panel.progress(byId("state"), this.progress, this.scene.loaded?.left_off, this.about.classes);
  }

  async export() {
    try {
      const name = await download("/api/export", { format: byId("format").value, decided: byId("decided").checked, difference: byId("difference").checked });
      this.tell(`${name} is in the browser's downloads.`);
    } catch (error) {
      this.say(error);
    }
  }

  tell(text) {
    const message = byId("message");
    message.textContent = text;
    message.hidden = false;
    clearTimeout(this.telling);
    this.telling = setTimeout(() => (message.hidden = true), 6000);
  }

  say(error) {
    this.tell(error.message);
    if (error.status === 0) this.dot("lost");
    if (error.status === 409) this.poll();
  }
}

function area(geometry) {
  const ring = (points) => points.reduce((sum, [x, y], k) => sum + x * points[(k + 1) % points.length][1] - points[(k + 1) % points.length][0] * y, 0) / 2;
  const polygons = geometry.type === "Polygon" ? [geometry.coordinates] : geometry.coordinates;
  return polygons.reduce((sum, [outer, ...holes]) => sum + Math.abs(ring(outer)) - holes.reduce((all, hole) => all + Math.abs(ring(hole)), 0), 0);
}
