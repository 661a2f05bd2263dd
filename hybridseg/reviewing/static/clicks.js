// Click to segment: points and a box on the map, answered by outlines.

import { post } from "./api.js";

const HOVER_MS = 66;
const LATE_MS = 100; // a refiner that takes longer has not encoded the view

export class Clicks {
  // changed: called whenever what is proposed changes; failed: called with an error
  constructor(scene, label, changed, failed) {
    Object.assign(this, { scene, label, changed, failed, object: null, active: false });
    this.reset();
    const map = scene.map;
    map.on("click", (event) => this.active && !event.originalEvent.shiftKey && this.add(event.lngLat, !event.originalEvent.altKey));
    map.on("contextmenu", (event) => this.active && this.add(event.lngLat, false));
    map.on("mousemove", (event) => this.hover(event));
    map.on("mousedown", (event) => this.begin(event));
  }

  reset() {
    Object.assign(this, { points: [], box: null, candidates: [], chosen: 0, token: null, drafted: false, history: [], pending: null, asked: (this.asked ?? 0) + 1 });
  }

  clear() {
    this.reset();
    this.scene.propose(null, []);
    this.scene.preview(null);
  }

  start(object) {
    this.clear();
    Object.assign(this, { active: true, object });
    this.scene.map.getContainer().classList.add("aims");
  }

  stop() {
    this.clear();
    Object.assign(this, { active: false, object: null });
    this.scene.map.getContainer().classList.remove("aims");
  }

  get current() {
    return this.candidates[this.chosen] ?? null;
  }

  add(lngLat, on) {
    this.history.push({ points: [...this.points], box: this.box });
    this.points.push({ at: lngLat.toArray(), on });
    return (this.pending = this.ask());
  }

  back() {
    const before = this.history.pop();
    if (!before) return;
    Object.assign(this, before, { token: null });
    if (this.points.length || this.box) this.pending = this.ask();
    else this.clear();
    this.changed();
  }

  // A box is dragged with Shift held.
  begin(event) {
    if (!this.active || !event.originalEvent.shiftKey) return;
    event.preventDefault();
    const map = this.scene.map;
    const from = event.lngLat;
    const to = ({ lngLat }) => [Math.min(from.lng, lngLat.lng), Math.min(from.lat, lngLat.lat), Math.max(from.lng, lngLat.lng), Math.max(from.lat, lngLat.lat)];
    const move = (moved) => this.scene.propose(this.current?.geometry, this.points, to(moved));
    map.on("mousemove", move);
    map.once("mouseup", (ended) => {
      map.off("mousemove", move);
      this.history.push({ points: [...this.points], box: this.box });
      this.box = to(ended);
      this.pending = this.ask();
    });
  }

  body(points, box, more = {}) {
    const place = this.scene.place;
    const at = points.map(({ at, on }) => ({ x: place.toCrs(at)[0], y: place.toCrs(at)[1], on }));
    const corners = box && [...place.toCrs([box[0], box[1]]), ...place.toCrs([box[2], box[3]])];
    return { points: at, box: corners, span: this.scene.span, object: this.object?.id ?? null, ...more };
  }

  async ask() {
    const number = ++this.asked;
    this.scene.preview(null);
    this.scene.propose(this.current?.geometry, this.points, this.box);
    this.changed(true);
    const late = setTimeout(() => this.draft(number), LATE_MS);
    try {
      const found = await post("/api/segment", this.body(this.points, this.box, { previous: this.token }));
      if (number !== this.asked || !this.active) return;
      this.candidates = found.candidates;
      this.drafted = false;
      this.choose(0);
    } catch (error) {
      if (number !== this.asked) return;
      this.candidates = [];
      this.failed(error);
    } finally {
      clearTimeout(late);
      if (number === this.asked) {
        this.drafted = false;
        this.scene.preview(null);
        this.changed();
      }
    }
  }

  // Until SAM2 answers a first click, the outline of the heatmap is shown.
  async draft(number) {
    if (this.points.length !== 1 || !this.points[0].on || this.box) return;
    const [x, y] = this.scene.place.toCrs(this.points[0].at);
    const { geometry } = await post("/api/draft", { x, y, class: this.label() }).catch(() => ({ geometry: null }));
    if (!geometry || number !== this.asked || !this.active || this.candidates.length) return;
    this.drafted = true;
    this.scene.preview(geometry);
    this.changed(true);
  }

  step() {
    if (this.candidates.length > 1) this.choose((this.chosen + 1) % this.candidates.length);
  }

  // The outline as traced is shown at once; as the theme shapes it, when that is ready.
  choose(index) {
    this.chosen = index;
    const one = this.current;
    this.token = one?.token ?? null;
    this.scene.propose(one?.geometry, this.points, this.box);
    if (one && !one.shaped) {
      one.shaped = post("/api/shape", { class: this.label(), geometry: one.geometry }).then(
        (found) => {
          one.geometry = found.geometry;
          if (this.current === one) this.scene.propose(one.geometry, this.points, this.box);
        },
        () => {}, // it stays as it was traced
      );
    }
    this.changed();
  }

  async outline() {
    await this.pending;
    const one = this.current;
    await one?.shaped;
    return one?.geometry ?? null;
  }

  async hover(event) {
    if (!this.active || this.points.length || this.box || this.hovering || event.originalEvent.buttons) return;
    this.hovering = true;
    const begun = performance.now();
    try {
      const point = { at: event.lngLat.toArray(), on: true };
      const found = await post("/api/segment", this.body([point], null, { object: null, preview: true }));
      if (this.active && !this.points.length && !this.box) this.scene.preview(found.candidates[0]?.geometry);
    } catch {
      // a click will say what is wrong
    } finally {
      setTimeout(() => (this.hovering = false), Math.max(0, HOVER_MS - (performance.now() - begun)));
    }
  }
}
