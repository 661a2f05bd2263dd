// Outlines that a person makes: by clicks, corner by corner, or of others.

import { post } from "./api.js";
import { View } from "./view.js";

export class Outlines extends View {
  async click(object) {
    if (object && !object.properties.open) return this.tell("It is not on the map any more: undo what removed it.");
    this.leave(false);
    if (!object) this.choose(null, null);
    this.clicks.start(object);
    this.shown();
  }

  async keep() {
    if (this.drawing.edited) {
      const geometry = this.drawing.geometry();
      this.drawing.stop();
      await this.act("replace", [this.object], { geometry, origin: "drawn" });
      return this.shown();
    }
    if (!this.clicks.active) return this.move();
    const unseen = this.clicks.drafted;
    const geometry = await this.clicks.outline();
    if (unseen && geometry) return this.tell("SAM2 sees it so by now: Enter keeps it.");
    if (!geometry) return this.tell("There is no outline yet: click on the object.");
    const corrected = this.clicks.object;
    if (corrected) {
      await this.act("replace", [this.object], { geometry, origin: "clicked" });
      return this.next();
    }
    const reply = await this.act("add", [], { class: this.class, geometry, origin: "clicked" });
    this.clicks.start(null);
    this.choose(reply.changed[0], null);
    return undefined;
  }

  async edit() {
    if (!this.object?.properties.open) return this.tell("Choose an object first.");
    if (this.object.geometry.type !== "Polygon") return this.tell("It has several parts, whose corners cannot be moved by hand: correct it by clicking.");
    this.leave(false);
    this.drawing.start("edit", null, this.object.geometry);
    return this.shown();
  }

  async square() {
    if (!this.object?.properties.open) return this.tell("Choose an object first.");
    const { geometry } = await post("/api/shape", { class: this.object.properties.class, geometry: this.object.geometry });
    await this.act("replace", [this.object], { geometry, origin: "drawn" });
  }

  async drawNew() {
    this.leave(false);
    this.choose(null, null);
    this.drawing.start("polygon", (geometry) => {
      this.drawing.stop();
      this.after(async () => {
        const reply = await this.act("add", [], { class: this.class, geometry, origin: "drawn" });
        this.choose(reply.changed[0], null);
      });
    });
    this.shown();
  }

  async split() {
    if (!this.object?.properties.open) return this.tell("Choose an object first.");
    this.leave(false);
    this.drawing.start("line", (geometry) => {
      this.drawing.stop();
      this.after(async () => {
        await this.act("split", [this.object], { geometry });
        this.shown();
      });
    });
    return this.shown();
  }
}
