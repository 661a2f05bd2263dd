// What the queue walks: the server passes over whatever does not fit.

import { get } from "./api.js";
import { SAID, element } from "./panel.js";
import { byId } from "./view.js";

export class Filter {
  // changed: called when another filter was set
  constructor(review, changed) {
    Object.assign(this, { review, changed, place: null, box: byId("filter") });
    const { about } = review;
    const choice = (name, rows) => element("select", { id: `filter-${name}`, name }, element("option", { value: "" }, "any"), ...rows.map(([value, text]) => element("option", { value }, text)));
    const number = (name, text) => element("input", { id: `filter-${name}`, name, type: "number", step: "any", min: "0", placeholder: text, ariaLabel: `${name.replace("_", " ")}` });
    const label = (name, text) => element("label", { htmlFor: `filter-${name}` }, text);
    const states = ["unseen", "proposed", "accepted", "corrected", "rejected", "deleted", "added", "split", "merged", "declined"];
    const here = element("label", { className: "place" }, element("input", { type: "checkbox", name: "place" }), " only what is in view now");
    this.form = this.box.querySelector("form");
    this.form.replaceChildren(
      label("class", "class"), choice("class", about.classes.map(({ name }) => [name, name])),
      label("verdict", "state"), choice("verdict", states.map((name) => [name, SAID[name]])),
      label("origin", "outline"), choice("origin", about.origins.map((name) => [name, name])),
      label("least_score", "score"), number("least_score", "from"), number("most_score", "to"),
      label("least_m2", "area, m²"), number("least_m2", "from"), number("most_m2", "to"),
      element("span"), here,
      element("span"), element("button", { type: "button", onclick: () => this.clear() }, "Show all"),
    );
    this.form.onsubmit = (event) => event.preventDefault();
    this.form.onchange = (event) => {
      if (event.target.name === "place") this.place = event.target.checked ? review.place.extent(review.scene.map.getBounds()) : null;
      this.set();
    };
    this.box.addEventListener("keydown", (event) => event.key === "Escape" && this.leave());
    this.said();
  }

  get values() {
    const given = [...new FormData(this.form)].filter(([name, value]) => value !== "" && name !== "place");
    return { ...Object.fromEntries(given), ...this.place };
  }

  get on() {
    return Object.keys(this.values).length > 0;
  }

  // A state that was chosen is walked whole, decided or not.
  walk(undecided) {
    return { ...this.values, undecided: undecided && !this.values.verdict };
  }

  open() {
    this.box.open = true;
    this.form.querySelector("select").focus();
  }

  leave() {
    this.box.open = false;
    document.activeElement?.blur();
  }

  clear() {
    this.form.reset();
    this.place = null;
    this.set();
  }

  async set() {
    await this.changed();
    await this.said();
  }

  async said() {
    const count = (number) => number.toLocaleString("en");
    this.box.classList.toggle("on", this.on);
    let text = `Queue: all ${count(this.review.about.queue)} objects`;
    if (this.on) {
      const { matching } = await get("/api/queue", { count: 1, ...this.values });
      text = `Queue: ${count(matching.count)} of ${count(this.review.about.queue)}, ${count(matching.left)} not decided`;
    }
    this.box.querySelector("summary").replaceChildren(element("kbd", {}, this.review.keyOf("filter")), text);
  }
}
