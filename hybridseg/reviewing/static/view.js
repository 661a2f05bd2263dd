// What the review shows beside the map's objects: card, buttons, hints, progress, messages.

import { download, get } from "./api.js";
import { hint } from "./hints.js";
import * as panel from "./panel.js";
import { LAYERS } from "./seen.js";

export const byId = (id) => document.getElementById(id);

export class View {
  shown() {
    const one = this.object;
    panel.card(byId("card"), one, this.position, this.about.queue, this.colours, one ? area(one.geometry) * (this.place.metres / this.place.unit) ** 2 : 0, this.finding);
    const groups = [["accept", "reject", "remove", "skip", "next", "back"], ["click", "fresh", "keep", "other", "edit", "square", "split", "merge", "draw"], ["ground", "undo", "redo"], LAYERS];
    const pressed = new Set(this.square ? ["ground"] : this.clicks.active ? [this.clicks.object ? "click" : "fresh"] : []);
    for (const name of LAYERS) if (this.seen.on.has(name)) pressed.add(name);
    const disabled = new Set();
    if (!one?.properties.open) ["accept", "reject", "click", "edit", "square", "split", "remove"].forEach((name) => disabled.add(name));
    if (!this.others.length) disabled.add("merge");
    if (!this.clicks.current && !this.drawing.edited && !this.proposal) disabled.add("keep");
    if (this.clicks.candidates.length < 2 && !(this.proposal && this.finding.places.length > 1)) disabled.add("other");
    panel.buttons(byId("does"), this.keys, groups, pressed, disabled);
    byId("hint").textContent = hint(this);
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
