// The review: one object after another, each decision saved at once.

import { actions } from "./actions.js";
import { get, post } from "./api.js";
import { Clicks } from "./clicks.js";
import { Drawing } from "./draw.js";
import { Filter } from "./filter.js";
import { Keys, label } from "./keys.js";
import { Learning } from "./learning.js";
import { SceneMap } from "./map.js";
import { Outlines } from "./outlines.js";
import { element } from "./panel.js";
import { Place, boundsOf } from "./place.js";
import { Seen } from "./seen.js";
import { byId } from "./view.js";

const POLL_MS = 4000;
const REST_MS = 150;
const SLOW_MS = 250; // encoding that takes longer is worth a heatmap ahead

class Review extends Outlines {
  constructor(scene) {
    super();
    this.about = scene;
    this.head = scene.head;
    this.place = new Place(scene);
    this.scene = new SceneMap("map", this.place, scene.classes);
    this.colours = new Map(scene.classes.map((one) => [one.name, one.colour]));
    this.clicks = new Clicks(this.scene, () => this.label, (busy) => this.proposed(busy), (error) => this.say(error));
    this.drawing = new Drawing(this.scene);
    Object.assign(this, { object: null, finding: null, reading: 0, others: [], position: null, class: scene.classes[0]?.name, square: null, slowest: 0, work: Promise.resolve() });
    this.keys = new Keys(actions(this));
    this.seen = new Seen(this);
    this.filter = new Filter(this, () => this.after(() => this.next(0)));
  }

  // One thing after another: what is asked for next knows what the one before it did.
  after(run) {
    return (this.work = this.work.then(run).catch((error) => this.say(error)));
  }

  keyOf(name) {
    return label(this.keys.of(name));
  }

  get label() {
    return this.clicks.object?.properties.class ?? this.class;
  }

  // The class of the object that is looked at, or the one chosen for new ones, where it is among some.
  among(labels) {
    return [this.object?.properties.class, this.label, labels[0]].find((name) => labels.includes(name));
  }

  async begin() {
    await this.scene.ready;
    byId("scene").textContent = this.about.name;
    byId("file").textContent = `${this.about.model}; saved in ${this.about.file} as ${this.about.who}`;
    byId("format").replaceChildren(...this.about.formats.map((one) => element("option", { value: one.slice(1), selected: one === ".gpkg" }, one)));
    byId("differs").hidden = !this.about.layer;
    byId("export").onclick = () => this.export();
    byId("help").onclick = () => this.keys.actions.help.run();
    const map = this.scene.map;
    this.learning = new Learning(this);
    map.on("click", (event) => this.pick(event));
    map.on("moveend", () => this.rested());
    map.on("move", () => this.scale());
    addEventListener("focus", () => this.poll());
    setInterval(() => document.visibilityState === "visible" && this.poll(), POLL_MS);
    await this.next(0);
    if (!this.object) await this.rested();
    await this.refresh();
    await this.learning.look();
    document.body.dataset.ready = "yes";
  }

  // --- the queue ---

  async next(from = (this.position ?? -1) + 1, undecided = true) {
    this.leave(false);
    const walk = { ...this.filter.walk(undecided), count: 2 };
    let { places } = await get("/api/queue", { ...walk, position: from });
    if (!places.length && from > 0) ({ places } = await get("/api/queue", { ...walk, position: 0 }));
    if (!places.length) {
      this.choose(null, null);
      if (this.about.queue) this.tell(this.filter.on ? "Nothing is left that the filter lets through." : "Every object of the map is decided.");
      return;
    }
    this.choose(places[0].object, places[0].position, true);
    this.ahead = places[1]?.object ?? null;
  }

  async back() {
    this.leave(false);
    const from = (this.position ?? this.about.queue) - 1;
    const { places } = from < 0 ? { places: [] } : await get("/api/queue", { ...this.filter.values, position: from, count: 1, back: true });
    if (places.length) this.choose(places[0].object, places[0].position, true);
    else this.tell("This is the first of the queue.");
  }

  // A square drawn at random: whoever asks again has looked it over.
  async ground() {
    if (this.square) {
      const done = await post("/api/square", { square: this.square.square });
      this.head = done.head;
      this.square = done;
      await this.refresh();
    } else this.square = await get("/api/square");
    const found = this.square.square ? this.square : null;
    this.leave(false);
    this.choose(null, null);
    this.square = found;
    this.scene.frame(found?.geometry ?? null);
    if (found) this.clicks.start(null);
    else this.tell("All ground is looked over, or there is no map to judge.");
    this.shown();
  }

  choose(feature, position, show = false) {
    Object.assign(this, { object: feature, position: feature ? position : this.position, others: [] });
    this.scene.select(feature);
    if (show) this.scene.show(feature);
    this.looked = this.look(feature).catch((error) => this.say(error));
    this.shown();
  }

  // What imagery says of an object of a layer from elsewhere, and where it proposes to put it.
  async look(feature) {
    Object.assign(this, { finding: null, reading: 0 });
    this.offer();
    if (feature?.properties.verdict === "proposed" && feature.properties.parents.length) {
      const { objects } = await get(`/api/objects/${feature.id}/parents`);
      if (this.object?.id === feature.id) this.scene.select(feature, this.others, objects);
    }
    if (!this.about.layer || !feature) return;
    const found = await get(`/api/findings/${feature.id}`);
    if (this.object?.id !== feature.id) return;
    this.finding = found;
    this.offer();
    this.shown();
  }

  get proposal() {
    const free = !this.clicks.active && !this.drawing.active && this.object?.properties.verdict === "unseen";
    return free ? (this.finding?.places[this.reading] ?? null) : null;
  }

  offer() {
    if (!this.clicks.active) this.scene.propose(this.proposal?.geometry ?? null, []);
  }

  async other() {
    if (this.clicks.active) return this.clicks.step();
    if (this.proposal) this.reading = (this.reading + 1) % this.finding.places.length;
    this.offer();
    return this.shown();
  }

  async move() {
    await this.looked;
    if (!this.proposal) return;
    const { geometry, origin } = this.proposal;
    await this.act("replace", [this.object], { geometry, origin });
    await this.next();
  }

  async pick(event) {
    if (this.clicks.active || this.drawing.active) return;
    const [key] = this.scene.at(event.point);
    if (key === undefined) return event.originalEvent.shiftKey ? undefined : this.choose(null, null);
    const feature = await get(`/api/objects/${key}`);
    if (event.originalEvent.shiftKey && this.object && key !== this.object.id) {
      const there = this.others.some((one) => one.id === key);
      this.others = there ? this.others.filter((one) => one.id !== key) : [...this.others, feature];
      this.scene.select(this.object, this.others);
      this.shown();
    } else this.choose(feature, this.object?.id === key ? this.position : null);
  }

  // --- decisions ---

  async act(kind, objects, more = {}) {
    const seen = Object.fromEntries(objects.map((one) => [one.id, one.properties.version]));
    return this.done(await post("/api/actions", { kind, objects: seen, ...more }));
  }

  async done(reply) {
    this.head = reply.head;
    this.scene.change(reply.changed, reply.removed);
    const mine = reply.changed.find((one) => one.id === this.object?.id);
    const heir = mine?.properties.open ? mine : (reply.changed.find((one) => one.properties.parents.includes(mine?.properties.id)) ?? mine);
    if (mine) this.choose(heir, this.position);
    else if (reply.removed.includes(this.object?.id)) this.choose(null, null);
    await this.refresh();
    if (this.filter.on) this.filter.said();
    return reply;
  }

  async decide(kind) {
    if (!this.object) return this.tell("Choose an object first.");
    await this.act(kind, [this.object]);
    await this.next();
  }

  async relabel(name) {
    this.class = name;
    if (!this.clicks.active && this.object && this.object.properties.class !== name) {
      await this.act("relabel", [this.object], { class: name });
    }
    this.shown();
  }

  async step(kind) {
    if (this.clicks.active && this.clicks.history.length && kind === "undo") return this.clicks.back();
    this.leave(false);
    const reply = await this.done(await post(`/api/${kind}`, { head: this.head }));
    const one = reply.changed.find((changed) => changed.properties.open) ?? reply.changed[0];
    if (one) {
      this.choose(one, this.position);
      const [west, south, east, north] = boundsOf(this.place.shown(one.geometry));
      const bounds = this.scene.map.getBounds();
      if (!bounds.contains([west, south]) || !bounds.contains([east, north])) this.scene.show(one);
    }
  }

  leave(choose = true) {
    const busy = this.clicks.active || this.drawing.active;
    if (this.square) this.scene.frame((this.square = null));
    if (this.clicks.active) this.clicks.stop();
    this.drawing.stop();
    if (choose && !busy) this.choose(null, null);
    this.offer();
    this.shown();
  }

  // --- what goes on meanwhile ---

  // The view at rest is loaded and encoded, then the next object of the queue.
  async rested() {
    clearTimeout(this.resting);
    this.scale();
    this.resting = setTimeout(async () => {
      try {
        await this.scene.load();
        this.seen.load();
        this.dot("busy");
        const [x, y] = this.place.toCrs(this.scene.map.getCenter().toArray());
        if (!this.slowest || this.slowest > SLOW_MS) post("/api/draft", { x, y, class: this.label }).catch(() => {});
        const begun = performance.now();
        await post("/api/encode", { x, y, span: this.scene.span });
        this.slowest = Math.max(this.slowest, performance.now() - begun);
        this.dot("ready");
        const next = this.ahead;
        this.ahead = null;
        if (next) {
          const [left, bottom, right, top] = boundsOf(next.geometry);
          await post("/api/encode", { x: (left + right) / 2, y: (bottom + top) / 2, span: 4 * Math.max(right - left, top - bottom) });
        }
      } catch (error) {
        this.say(error);
      }
    }, REST_MS);
  }

  // Another tab, or another person, may have done something.
  async poll() {
    try {
      const { head } = await get("/api/changes", { since: this.head });
      if (byId("dot").dataset.state === "lost") this.dot("ready");
      if (head !== this.head) await this.again(head);
    } catch (error) {
      this.say(error);
    }
  }

  async again(head) {
    this.head = head;
    await this.scene.load(true);
    if (this.object) {
      const now = await get(`/api/objects/${this.object.id}`).catch(() => null);
      if (now?.properties.version !== this.object.properties.version) this.choose(now, this.position);
    }
    await this.refresh();
  }
}

get("/api/scene")
  .then((scene) => (globalThis.review = new Review(scene)).begin())
  .catch((error) => {
    const message = byId("message");
    message.textContent = error.message;
    message.hidden = false;
  });
