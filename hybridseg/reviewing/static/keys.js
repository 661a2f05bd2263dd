// Which key does what. A person may give an action another key; the browser remembers it.

const KEPT = "hybridseg keys";

export class Keys {
  constructor(actions) {
    this.actions = actions; // name -> { key, about, run }
    this.own = JSON.parse(localStorage.getItem(KEPT) ?? "{}");
    addEventListener("keydown", (event) => this.pressed(event));
  }

  of(name) {
    return this.own[name] ?? this.actions[name].key;
  }

  pressed(event) {
    if (document.querySelector("dialog[open]") || event.target.closest?.("select, input")) return;
    const key = spelled(event);
    const name = Object.keys(this.actions).find((one) => this.of(one) === key);
    if (name === undefined) return;
    event.preventDefault();
    if (!event.repeat || this.actions[name].repeats) this.actions[name].run();
  }

  page(dialog) {
    const list = dialog.querySelector("#bindings");
    const show = () => {
      list.replaceChildren(
        ...Object.entries(this.actions).map(([name, { about }]) => {
          const row = document.createElement("div");
          const button = Object.assign(document.createElement("button"), { type: "button", textContent: label(this.of(name)) });
          button.onclick = () => this.rebind(name, button, show);
          row.append(button, about);
          return row;
        }),
      );
    };
    dialog.querySelector("#reset").onclick = () => {
      this.own = {};
      localStorage.removeItem(KEPT);
      show();
    };
    show();
    dialog.showModal();
  }

  rebind(name, button, show) {
    button.textContent = "press a key";
    button.classList.add("waits");
    const take = (event) => {
      if (["Shift", "Control", "Alt", "Meta"].includes(event.key)) return;
      event.preventDefault();
      removeEventListener("keydown", take, true);
      const key = spelled(event);
      const other = Object.keys(this.actions).find((one) => one !== name && this.of(one) === key);
      if (other) this.own[other] = this.of(name); // no key does two things
      this.own[name] = key;
      localStorage.setItem(KEPT, JSON.stringify(this.own));
      show();
    };
    addEventListener("keydown", take, true);
  }
}

function spelled(event) {
  const held = (event.ctrlKey || event.metaKey ? "Ctrl+" : "") + (event.shiftKey && event.key.length > 1 ? "Shift+" : "");
  const letter = event.shiftKey && /^\p{L}$/u.test(event.key) ? `Shift+${event.key.toLowerCase()}` : event.key.toLowerCase();
  return held + (event.key.length === 1 ? letter : event.key);
}

export function label(key) {
  const named = { " ": "Space", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc", Delete: "Del", Backspace: "⌫" };
  return key.split(/(?<=\+)(?=.)/).map((part) => named[part] ?? (part.length === 1 ? part.toUpperCase() : part)).join("");
}
