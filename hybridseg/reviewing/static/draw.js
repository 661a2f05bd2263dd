// Outlines by hand: terra-draw holds only what is being drawn or edited.

export class Drawing {
  // finished: called with a GeoJSON geometry in the scene's CRS
  constructor(scene) {
    this.scene = scene;
    Object.assign(this, { draw: null, mode: null });
  }

  get active() {
    return this.draw !== null;
  }

  start(mode, finished, geometry = null) {
    this.stop();
    this.mode = mode;
    const { TerraDraw, TerraDrawPolygonMode, TerraDrawLineStringMode, TerraDrawSelectMode } = globalThis.terraDraw;
    const { TerraDrawMapLibreGLAdapter } = globalThis.terraDrawMaplibreGlAdapter;
    const movable = { feature: { draggable: false, coordinates: { midpoints: true, draggable: true, deletable: true } } };
    const modes = {
      polygon: () => new TerraDrawPolygonMode(),
      line: () => new TerraDrawLineStringMode(),
      edit: () => new TerraDrawSelectMode({ flags: { polygon: movable } }),
    };
    const used = [modes[mode]()];
    if (mode === "edit") used.push(new TerraDrawPolygonMode());
    this.draw = new TerraDraw({ adapter: new TerraDrawMapLibreGLAdapter({ map: this.scene.map, coordinatePrecision: 9 }), modes: used });
    this.draw.start();
    if (mode === "edit") {
      const [added] = this.draw.addFeatures([{ type: "Feature", properties: { mode: "polygon" }, geometry: this.rounded(geometry) }]);
      if (!added.valid) {
        this.stop();
        throw new Error("These corners cannot be moved by hand: draw the outline anew.");
      }
      this.draw.setMode("select");
      this.draw.selectFeature(added.id);
      this.edited = added.id;
    } else {
      this.draw.setMode(mode === "line" ? "linestring" : "polygon");
      this.draw.on("finish", (id) => setTimeout(() => finished(this.geometry(id))));
    }
  }

  geometry(id = this.edited) {
    return this.scene.place.real(this.draw.getSnapshotFeature(id).geometry);
  }

  stop() {
    this.draw?.stop();
    this.draw = null;
    this.edited = null;
  }

  rounded(geometry) {
    const shown = this.scene.place.shown(geometry);
    return { type: "Polygon", coordinates: shown.coordinates.map((ring) => ring.map((at) => at.map((value) => Number(value.toFixed(9))))) };
  }
}
