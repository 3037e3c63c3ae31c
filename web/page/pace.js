// The pace of work that may take long.

/** How many times as long as the work the pause after it is. */
const REST = 3;

/** Spaces work so that it takes at most a quarter of the time, and the page is free for everything else. */
export class Pace {
  #least;
  #until = 0;

  /** `least` is the shortest wait, in milliseconds. */
  constructor(least) {
    this.#least = least;
  }

  /** Returns the milliseconds after which the work may be done, at the time `now`. */
  wait(now) {
    return Math.max(this.#least, this.#until - now);
  }

  /** Notes that the work was done between two times. */
  done(began, ended) {
    this.#until = ended + REST * (ended - began);
  }
}
