// What the map shows beside the objects: the heatmap, the prompts found on it, the windows that SAM2 is asked in.

import { get } from "./api.js";

export const LAYERS = ["outlines", "heatmap", "prompts", "windows"];

export class Seen {
  constructor(review) {
    Object.assign(this, { review, on: new Set(["outlines"]), known: null, asking: false });
  }

  async toggle(name) {
    const shown = !this.on.delete(name);
    if (shown) this.on.add(name);
    this.review.scene.toggle(name, shown);
    this.review.shown();
    if (name !== "outlines" && shown) this.load(); // takes seconds: nothing waits for it
  }

  // The view at rest, one at a time; what was asked for meanwhile is looked at afterwards.
  async load() {
    const { review } = this;
    if (!LAYERS.some((name) => name !== "outlines" && this.on.has(name))) return;
    const view = { class: review.among(review.about.seen), ...review.place.extent(review.scene.map.getBounds()) };
    const { known } = this;
    const inside = known && known.class === view.class && view.left >= known.left && view.right <= known.right && view.bottom >= known.bottom && view.top <= known.top;
    if (inside || this.asking) return;
    this.asking = true;
    review.shown();
    try {
      review.scene.seen(await get("/api/seen", view), `${location.origin}/api/heatmap?${new URLSearchParams(view)}`);
      review.scene.toggle("heatmap", this.on.has("heatmap"));
      this.known = view;
    } catch (error) {
      if (error.message !== this.told) review.say(error);
      this.told = error.message;
      return;
    } finally {
      this.asking = false;
      review.shown();
    }
    this.told = null;
    await this.load();
  }
}
