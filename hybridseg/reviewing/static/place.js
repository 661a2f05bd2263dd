// The page's map shows the scene's own pixels, not the earth: its first pixel lies at longitude and latitude 0, and one
// pixel is one pixel of a tile at zoom 18. So no imagery is resampled on the way, whatever the CRS.

export const OWN_ZOOM = 17; // MapLibre counts zooms in tiles of 512 px
const WORLD = 256 * 2 ** 18;

export class Place {
  constructor(scene) {
    const [a, b, c, d, e, f] = scene.affine;
    Object.assign(this, { a, b, c, d, e, f, det: a * e - b * d, width: scene.width, height: scene.height });
    this.unit = Math.sqrt(Math.abs(this.det)); // CRS units of a pixel
    this.metres = scene.metres_per_pixel;
  }

  fromPixel([x, y]) {
    return [(x / WORLD) * 360, (Math.atan(Math.sinh(Math.PI * (-2 * y) / WORLD)) * 180) / Math.PI];
  }

  toPixel([lon, lat]) {
    const north = Math.asinh(Math.tan((lat * Math.PI) / 180)) / Math.PI;
    return [(lon / 360) * WORLD, (-north / 2) * WORLD];
  }

  fromCrs([x, y]) {
    const [dx, dy] = [x - this.c, y - this.f];
    return this.fromPixel([(this.e * dx - this.b * dy) / this.det, (this.a * dy - this.d * dx) / this.det]);
  }

  toCrs(lonLat) {
    const [x, y] = this.toPixel(lonLat);
    return [this.a * x + this.b * y + this.c, this.d * x + this.e * y + this.f];
  }

  shown(geometry) {
    return { ...geometry, coordinates: deep(geometry.coordinates, (at) => this.fromCrs(at)) };
  }

  real(geometry) {
    return { type: geometry.type, coordinates: deep(geometry.coordinates, (at) => this.toCrs(at)) };
  }

  extent(bounds) {
    const corners = [bounds.getNorthWest(), bounds.getNorthEast(), bounds.getSouthEast(), bounds.getSouthWest()];
    const at = corners.map((corner) => this.toCrs(corner.toArray()));
    const [xs, ys] = [at.map((p) => p[0]), at.map((p) => p[1])];
    return { left: Math.min(...xs), bottom: Math.min(...ys), right: Math.max(...xs), top: Math.max(...ys) };
  }

  get bounds() {
    const [west, north] = this.fromPixel([0, 0]);
    const [east, south] = this.fromPixel([this.width, this.height]);
    return [west, south, east, north];
  }
}

function deep(coordinates, move) {
  return typeof coordinates[0] === "number" ? move(coordinates) : coordinates.map((inner) => deep(inner, move));
}

export function boundsOf(geometry) {
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  deep(geometry.coordinates, ([x, y]) => {
    box[0] = Math.min(box[0], x);
    box[1] = Math.min(box[1], y);
    box[2] = Math.max(box[2], x);
    box[3] = Math.max(box[3], y);
  });
  return box;
}
