// The map: the scene's tiles, the objects in view, the one that is looked at, and what clicks propose.

import { Map as MapLibre, setWorkerUrl } from "./vendor/maplibre-gl.mjs";
import { get, headers } from "./api.js";
import { OWN_ZOOM, boundsOf } from "./place.js";

setWorkerUrl(new URL("vendor/maplibre-gl-worker.mjs", location.href).href);

const NOTHING = { type: "FeatureCollection", features: [] };
const AHEAD = 0.5; // of the view's sides, loaded around it
const DECIDED = ["in", ["get", "verdict"], ["literal", ["accepted", "corrected", "added"]]];
const MAPPED = ["!=", ["get", "verdict"], "proposed"];
const PROPOSED = "#00d5e8";
const NEW = "#ffd23f";
const [ON, BESIDE] = ["#18a058", "#d03050"]; // clicks and prompts
const HIDDEN = { visibility: "none" };
const SEEN = (...kinds) => ["in", ["get", "what"], ["literal", kinds]];
const LAYERS = {
  outlines: ["objects-fill", "objects-line", "objects-coarse", "objects-proposed"],
  heatmap: ["heat"], prompts: ["supports", "prompts"], windows: ["windows"],
};
const SKETCHED = ["match", ["get", "what"], "new", NEW, "gone", "#ff4d6d", PROPOSED];

export class SceneMap {
  constructor(element, place, classes) {
    this.place = place;
    this.features = new Map();
    this.loaded = null;
    const bounds = place.bounds;
    const [wide, high] = [bounds[2] - bounds[0], bounds[3] - bounds[1]];
    this.map = new MapLibre({
      container: element,
      style: style(bounds, classes),
      bounds,
      maxBounds: [bounds[0] - wide, bounds[1] - high, bounds[2] + wide, bounds[3] + high],
      maxZoom: OWN_ZOOM + 5,
      attributionControl: false,
      dragRotate: false,
      pitchWithRotate: false,
      touchPitch: false,
      boxZoom: false,
      doubleClickZoom: false,
      keyboard: false,
      fadeDuration: 0,
      renderWorldCopies: false,
      transformRequest: (url) => (url.startsWith(`${location.origin}/api/`) ? { url, headers } : { url }),
    });
    this.map.touchZoomRotate.disableRotation();
    this.ready = new Promise((done) => this.map.once("load", done));
  }

  async load(again = false) {
    const view = this.place.extent(this.map.getBounds());
    const zoom = this.map.getZoom();
    const known = this.loaded;
    const inside = known && view.left >= known.left && view.right <= known.right && view.bottom >= known.bottom && view.top <= known.top;
    if (!again && inside && Math.abs(zoom - known.zoom) < 1 && !known.left_off) return known;
    const [dx, dy] = [(view.right - view.left) * AHEAD, (view.top - view.bottom) * AHEAD];
    const asked = { left: view.left - dx, right: view.right + dx, bottom: view.bottom - dy, top: view.top + dy };
    const tolerance = zoom < OWN_ZOOM - 1 ? this.place.unit * 2 ** (OWN_ZOOM - 1 - zoom) : 0;
    const found = await get("/api/objects", { ...asked, tolerance });
    this.loaded = { ...asked, zoom, left_off: found.left_off, count: found.count, head: found.head };
    this.features = new Map(found.features.map((one) => [one.id, this.drawn(one)]));
    this.map.getSource("objects").setData({ type: "FeatureCollection", features: [...this.features.values()] });
    return this.loaded;
  }

  drawn({ id, properties, geometry }) {
    const { key, origin, verdict } = properties;
    return { type: "Feature", id, properties: { key, origin, verdict, class: properties.class }, geometry: this.place.shown(geometry) };
  }

  change(changed, removed) {
    const gone = [...removed, ...changed.filter((one) => !one.properties.open).map((one) => one.id)];
    const there = changed.filter((one) => one.properties.open).map((one) => this.drawn(one));
    gone.forEach((key) => this.features.delete(key));
    there.forEach((one) => this.features.set(one.id, one));
    this.map.getSource("objects").updateData({ remove: gone, add: there });
  }

  // behind: what a proposal would take the place of.
  select(feature, others = [], behind = []) {
    const drawn = (one, gone) => ({ ...this.drawn(one), properties: { gone } });
    const chosen = [feature, ...others].filter(Boolean);
    const shown = [...behind.map((one) => drawn(one, true)), ...chosen.map((one) => drawn(one, !one.properties.open))];
    this.map.getSource("selected").setData({ type: "FeatureCollection", features: shown });
  }

  propose(geometry, points, box = null) {
    const shown = geometry ? [{ type: "Feature", properties: {}, geometry: this.place.shown(geometry) }] : [];
    this.map.getSource("proposed").setData({ type: "FeatureCollection", features: shown });
    const marks = points.map(({ at, on }) => ({ type: "Feature", properties: { on }, geometry: { type: "Point", coordinates: at } }));
    if (box) marks.push({ type: "Feature", properties: {}, geometry: { type: "LineString", coordinates: ring(box) } });
    this.map.getSource("marks").setData({ type: "FeatureCollection", features: marks });
  }

  // What an improvement would change: objects that would come, go, or get another outline.
  sketch(features) {
    const shown = features.map((one) => ({ ...one, geometry: this.place.shown(one.geometry) }));
    this.map.getSource("sketch").setData({ type: "FeatureCollection", features: shown });
  }

  // A square of ground to be looked over: all around it is darker.
  frame(geometry) {
    const shown = geometry && this.place.shown(geometry);
    const [west, south, east, north] = this.map.getMaxBounds().toArray().flat();
    const around = shown && { type: "Polygon", coordinates: [ring([west, south, east, north]), shown.coordinates[0]] };
    this.map.getSource("frame").setData(shown ? { type: "Feature", properties: {}, geometry: around } : NOTHING);
    if (!shown) return;
    const [x0, y0, x1, y1] = boundsOf(shown);
    this.map.fitBounds([[x0, y0], [x1, y1]], { padding: 48, animate: false });
  }

  preview(geometry) {
    const shown = geometry ? { type: "Feature", properties: {}, geometry: this.place.shown(geometry) } : NOTHING;
    this.map.getSource("preview").setData(shown);
  }

  at(point) {
    const near = [[point.x - 3, point.y - 3], [point.x + 3, point.y + 3]];
    const hit = this.map.queryRenderedFeatures(near, { layers: ["objects-fill"] });
    return hit.map((one) => one.id);
  }

  // The object takes a quarter of the view, so that clicks on it are looked at in a window that suits it.
  show(feature) {
    const [west, south, east, north] = boundsOf(this.place.shown(feature.geometry));
    const canvas = this.map.getCanvas();
    const side = Math.min(canvas.clientWidth, canvas.clientHeight);
    const [x0, y0] = this.place.toPixel([west, north]);
    const [x1, y1] = this.place.toPixel([east, south]);
    const longest = Math.max(x1 - x0, y1 - y0, 4);
    const zoom = Math.min(OWN_ZOOM + 2.5, OWN_ZOOM + Math.log2(side / (4 * longest)));
    this.map.jumpTo({ center: [(west + east) / 2, (south + north) / 2], zoom });
  }

  get span() {
    const canvas = this.map.getCanvas();
    return Math.min(canvas.clientWidth, canvas.clientHeight) * 2 ** (OWN_ZOOM - this.map.getZoom()) * this.place.unit;
  }

  get metresPerPixel() {
    return this.place.metres * 2 ** (OWN_ZOOM - this.map.getZoom());
  }

  toggle(name, shown) {
    for (const layer of LAYERS[name]) if (this.map.getLayer(layer)) this.map.setLayoutProperty(layer, "visibility", shown ? "visible" : "none");
  }

  // What the models see: features, and the heatmap's picture with its corners.
  seen(found, url) {
    this.map.getSource("seen").setData({ type: "FeatureCollection", features: found.features.map((one) => ({ ...one, geometry: this.place.shown(one.geometry) })) });
    const picture = { url, coordinates: found.corners.map((at) => this.place.fromCrs(at)) };
    const heat = this.map.getSource("heat");
    if (heat) heat.updateImage(picture);
    else this.map.addSource("heat", { type: "image", ...picture }).addLayer({ id: "heat", type: "raster", source: "heat", paint: { "raster-fade-duration": 0 } }, "windows");
  }
}

function ring([west, south, east, north]) {
  return [[west, south], [east, south], [east, north], [west, north], [west, south]];
}

function style(bounds, classes) {
  const colour = classes.length ? ["match", ["get", "class"], ...classes.flatMap((one) => [one.name, one.colour]), "#999999"] : "#999999";
  const data = (name) => ({ [name]: { type: "geojson", data: NOTHING, tolerance: 0.1 } });
  const width = ["interpolate", ["linear"], ["zoom"], OWN_ZOOM - 4, 0.8, OWN_ZOOM, 1.6, OWN_ZOOM + 3, 2.4];
  const tiles = [`${location.origin}/api/tiles/{z}/{x}/{y}`];
  return {
    version: 8,
    sources: {
      scene: { type: "raster", tiles, tileSize: 256, minzoom: 1, maxzoom: 18, bounds },
      ...data("seen"), ...data("objects"), ...data("frame"), ...data("sketch"), ...data("selected"), ...data("preview"), ...data("proposed"), ...data("marks"),
    },
    layers: [
      { id: "ground", type: "background", paint: { "background-color": "#101214" } },
      { id: "scene", type: "raster", source: "scene", paint: { "raster-fade-duration": 0 } },
      { id: "windows", type: "line", source: "seen", filter: SEEN("window"), layout: HIDDEN, paint: { "line-color": "#9fd0ff", "line-width": 1.2 } },
      { id: "objects-fill", type: "fill", source: "objects", paint: { "fill-color": colour, "fill-opacity": ["case", DECIDED, 0.4, 0.04] } },
      { id: "objects-line", type: "line", source: "objects", filter: ["all", ["!=", ["get", "origin"], "coarse"], MAPPED],
        paint: { "line-color": colour, "line-width": width } },
      { id: "objects-coarse", type: "line", source: "objects", filter: ["all", ["==", ["get", "origin"], "coarse"], MAPPED],
        paint: { "line-color": colour, "line-width": width, "line-dasharray": [3, 2] } },
      { id: "objects-proposed", type: "line", source: "objects", filter: ["!", MAPPED],
        paint: { "line-color": NEW, "line-width": width, "line-dasharray": [1, 2] } },
      { id: "supports", type: "line", source: "seen", filter: SEEN("support"), layout: HIDDEN,
        paint: { "line-color": "#fff", "line-width": 1.2, "line-dasharray": [2, 2] } },
      // a point on an object often is one beside its neighbour, too
      { id: "prompts", type: "circle", source: "seen", filter: SEEN("on", "beside"), layout: { ...HIDDEN, "circle-sort-key": ["match", ["get", "what"], "on", 1, 0] },
        paint: { "circle-radius": ["match", ["get", "what"], "on", 3, 5], "circle-color": ["match", ["get", "what"], "on", ON, BESIDE], "circle-stroke-color": "#fff", "circle-stroke-width": 1 } },
      { id: "frame", type: "fill", source: "frame", paint: { "fill-color": "#000", "fill-opacity": 0.45 } },
      { id: "frame-line", type: "line", source: "frame", paint: { "line-color": "#fff", "line-width": 1.5 } },
      { id: "sketch-fill", type: "fill", source: "sketch", paint: { "fill-color": SKETCHED, "fill-opacity": 0.25 } },
      { id: "sketch-line", type: "line", source: "sketch", paint: { "line-color": SKETCHED, "line-width": 2.5 } },
      { id: "selected-casing", type: "line", source: "selected", paint: { "line-color": "#000", "line-opacity": 0.55, "line-width": 6 } },
      { id: "selected-line", type: "line", source: "selected", filter: ["!", ["get", "gone"]], paint: { "line-color": "#fff", "line-width": 3 } },
      { id: "selected-gone", type: "line", source: "selected", filter: ["get", "gone"],
        paint: { "line-color": "#c9ccd1", "line-width": 2, "line-dasharray": [2, 2] } },
      { id: "preview", type: "line", source: "preview", paint: { "line-color": PROPOSED, "line-width": 1.5, "line-dasharray": [2, 1.5] } },
      { id: "proposed-fill", type: "fill", source: "proposed", paint: { "fill-color": PROPOSED, "fill-opacity": 0.25 } },
      { id: "proposed-line", type: "line", source: "proposed", paint: { "line-color": PROPOSED, "line-width": 2.5 } },
      { id: "box", type: "line", source: "marks", filter: ["==", ["geometry-type"], "LineString"],
        paint: { "line-color": "#fff", "line-width": 1.5, "line-dasharray": [3, 2] } },
      { id: "points", type: "circle", source: "marks", filter: ["==", ["geometry-type"], "Point"],
        paint: { "circle-radius": 5, "circle-color": ["case", ["get", "on"], ON, BESIDE], "circle-stroke-color": "#fff", "circle-stroke-width": 2 } },
    ],
  };
}
