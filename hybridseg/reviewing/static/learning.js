// Improve and propose: the server works in the background, the page shows what would change and asks.

import { get, post } from "./api.js";
import * as panel from "./panel.js";
import { byId } from "./view.js";

const LOOK_MS = 500;

export class Learning {
  constructor(review) {
    this.review = review;
    this.does = { improve: () => this.begin("improve"), propose: () => this.begin("propose"), agree: () => this.agree(), forget: () => this.forget() };
    byId("learning").hidden = !review.about.teachable.length;
  }

  async begin(kind) {
    await this.try(() => post("/api/improve", { kind, class: this.review.among(this.review.about.teachable) }));
  }

  async look() {
    await this.try(() => get("/api/improve"));
  }

  async forget() {
    await this.try(() => post("/api/improve/forget"));
  }

  async agree() {
    const { review } = this;
    await this.try(async () => {
      const first = review.about.queue;
      const { head, queue } = await post("/api/improve/agree");
      review.about.queue = queue;
      await review.again(head);
      await review.filter.said();
      if (queue > first) await review.next(first);
      return get("/api/improve");
    });
  }

  async try(work) {
    clearTimeout(this.waiting);
    try {
      const job = await work();
      panel.learning(byId("learning"), job, this.does);
      this.review.scene.sketch(job.features ?? []);
      if (job.state === "running") this.waiting = setTimeout(() => this.look(), LOOK_MS);
    } catch (error) {
      this.review.say(error);
    }
  }
}
