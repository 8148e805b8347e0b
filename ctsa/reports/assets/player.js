"use strict";
/* A player: one slider for the tokens, their Gram matrix, and a line through the observables. */

function unpacked(pack) {
  const bytes = Uint8Array.from(atob(pack.b64), (c) => c.charCodeAt(0));
  const whole = new Int16Array(bytes.buffer);
  const size = pack.shape.slice(1).reduce((a, b) => a * b, 1);
  const frame = (k) => Array.from(whole.subarray(k * size, (k + 1) * size), (v) => v * pack.scale[k]);
  return { shape: pack.shape, frame };
}

class Player {
  constructor(id, spec, redrawn) {
    this.id = id;
    this.spec = spec;
    this.at = spec.start;
    this.redrawn = redrawn; // called when a state has been reached, not on the way
    this.frames = Object.fromEntries(Object.entries(spec.frames).map(([name, pack]) => [name, unpacked(pack)]));
    this.slider = document.getElementById(`${id}-slider`);
    this.button = document.getElementById(`${id}-play`);
    this.shown = document.getElementById(`${id}-shown`);
    this.timer = null;
    if (!this.slider) return;
    this.slider.value = this.at; // browsers remember where it was
    this.slider.addEventListener("input", () => { this.stop(); this.go(Number(this.slider.value)); });
    this.slider.addEventListener("change", () => this.redrawn(this.id));
    this.button.addEventListener("click", () => (this.timer === null ? this.play() : this.stop()));
  }

  /* The places of tokens in frame k, an array for each axis. */
  places(k) {
    const [, n, c] = this.frames.tokens.shape;
    const flat = this.frames.tokens.frame(k);
    return Array.from({ length: c }, (_, j) => Array.from({ length: n }, (_, i) => flat[i * c + j]));
  }

  /* The Gram matrix of frame k, from its upper triangle. */
  gram(k) {
    const flat = this.frames.gram.frame(k);
    const m = Math.round((Math.sqrt(8 * flat.length + 1) - 1) / 2);
    const rows = Array.from({ length: m }, () => new Array(m));
    let at = 0;
    for (let i = 0; i < m; i++) for (let j = i; j < m; j++) rows[i][j] = rows[j][i] = flat[at++];
    return rows;
  }

  go(k) {
    this.at = k;
    const view = (name) => document.getElementById(`${this.id}-${name}`);
    const drawn = (name) => view(name) && view(name).classList.contains("js-plotly-plot");
    if (drawn("tokens")) {
      const change = Object.fromEntries(this.places(k).map((values, j) => ["xyz"[j], [values]]));
      Plotly.restyle(view("tokens"), change, [this.spec.moving]);
    }
    if (drawn("gram")) Plotly.restyle(view("gram"), { z: [this.gram(k)] }, [0]);
    if (drawn("series")) {
      const t = this.spec.at[k];
      Plotly.relayout(view("series"), { "shapes[0].x0": t, "shapes[0].x1": t });
    }
    if (!this.slider) return;
    this.slider.value = k;
    this.slider.setAttribute("aria-valuetext", this.spec.labels[k]);
    this.shown.textContent = this.spec.labels[k];
  }

  play() {
    const last = this.spec.labels.length - 1;
    const first = this.at >= last ? 0 : this.at;
    const pause = Math.max(40, 6000 / last); // all of it in six seconds, or as fast as can be seen
    const begun = performance.now();
    this.button.textContent = "Pause";
    const step = () => {
      const k = Math.min(last, first + Math.floor((performance.now() - begun) / pause));
      if (k !== this.at) this.go(k);
      if (k === last) this.stop();
    };
    this.timer = setInterval(step, pause);
    this.go(first);
  }

  stop() {
    if (this.timer === null) return;
    clearInterval(this.timer);
    this.timer = null;
    this.button.textContent = "Play";
    this.redrawn(this.id);
  }
}
