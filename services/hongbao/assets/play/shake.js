// One player's draws, as crates/client plays them: shakes add up until the interval is over, one draw is under way at a
// time, and it is asked again under its own counter until it is answered.
import { KIND } from './wire.js';

const LOST = 1, WON = 2, PENDING = 3, TOO_EARLY = 4, NOT_OPEN = 5, LIMIT = 6, BUSY = 7, UNAVAILABLE = 8, BAD_COUNTER = 9;

export class Player {
  // `told(what, detail)` says what happened: lost, won, closed, limit, waiting.
  constructor(told) {
    Object.assign(this, { told, link: null, campaigns: [], shakes: 0, round: 0, counter: 1, due: 0, quiet: 0, draw: null });
  }

  opened(link, login) {
    this.link = link;
    this.campaigns = login.campaigns;
    this.turn();
  }

  closed() { this.link = null; }

  async refresh() {
    const answer = await this.link?.ask(KIND.Campaigns);
    if (answer) this.campaigns = answer.campaigns;
  }

  // The round that is open for this player, and the campaign it belongs to.
  open() {
    const now = this.link ? this.link.now() : 0;
    for (const campaign of this.campaigns) {
      for (const round of campaign.rounds) {
        if (Number(round.open_ms) + round.start_delay_ms <= now && now < Number(round.close_ms)) return { campaign, round };
      }
    }
    return null;
  }

  // The next opening, ms by the server's clock; 0: none is known.
  next() {
    const now = this.link ? this.link.now() : 0;
    const starts = this.campaigns.flatMap((c) => c.rounds.map((r) => Number(r.open_ms) + r.start_delay_ms));
    return Math.min(...starts.filter((start) => start > now), Infinity);
  }

  shake() {
    this.shakes = Math.min(this.shakes + 1, 12000);
    this.turn();
  }

  async turn() {
    if (this.busy) return;
    this.busy = true;
    try {
      while (this.link && (this.draw || this.shakes)) {
        const wait = Math.max(this.due, this.quiet) - Date.now();
        if (wait > 0) {
          clearTimeout(this.timer);
          this.timer = setTimeout(() => this.turn(), Math.min(wait, 60000));
          return;
        }
        const open = this.open();
        if (!this.draw && !open) return this.told('closed', this.next());
        if (!this.draw) this.begin(open);
        await this.ask();
      }
    } finally {
      this.busy = false;
    }
  }

  begin({ campaign, round }) {
    const key = `${campaign.campaign} ${round.round}`;
    if (this.round !== key) [this.round, this.counter] = [key, 1];
    this.draw = { campaign: campaign.campaign, round: round.round, counter: this.counter, shakes: this.shakes };
    this.shakes = 0;
    this.due = Date.now() + Math.max(campaign.interval_ms, campaign.submit_min_ms);
  }

  async ask() {
    const draw = this.draw;
    let answer;
    try {
      answer = await this.link.ask(KIND.Submit, 'Submit', draw);
    } catch (error) {
      this.due = Date.now() + (error.retry_after_ms || 1000);
      if (!error.retry_after_ms) this.drop();
      return;
    }
    this.due = Date.now() + answer.next_submit_ms;
    switch (answer.outcome) {
      case LOST:
      case WON:
        this.draw = null;
        this.counter = Math.max(draw.counter + 1, answer.next_counter);
        this.told(answer.outcome === WON ? 'won' : 'lost', answer.award);
        break;
      case PENDING: case BUSY: case UNAVAILABLE:
        this.due = Date.now() + Math.max(answer.next_submit_ms, 200);
        this.told('waiting');
        break;
      case BAD_COUNTER:
        this.counter = Math.max(1, answer.next_counter);
        this.back();
        break;
      case TOO_EARLY:
        this.back();
        break;
      case NOT_OPEN:
        this.back();
        this.quiet = answer.until_ms ? Number(answer.until_ms) - this.link.offset : Date.now() + 5000;
        this.told('closed', Number(answer.until_ms));
        break;
      case LIMIT:
        this.draw = null;
        this.quiet = answer.until_ms ? Number(answer.until_ms) - this.link.offset : Infinity;
        this.told('limit', Number(answer.until_ms));
        break;
      default:
        this.drop();
    }
  }

  // It was no entry: its shakes wait again.
  back() {
    this.shakes = Math.min(this.shakes + this.draw.shakes, 12000);
    this.draw = null;
  }

  drop() { this.draw = null; }
}

// Calls `shaken` for each shake of a telephone: the acceleration turns round fast enough.
export function watchMotion(shaken) {
  let last = 0, from = null;
  addEventListener('devicemotion', (event) => {
    const now = event.accelerationIncludingGravity;
    if (!now || now.x === null) return;
    if (from && Math.abs(now.x - from.x) + Math.abs(now.y - from.y) + Math.abs(now.z - from.z) > 20 && Date.now() - last > 100) {
      last = Date.now();
      shaken();
    }
    from = { x: now.x, y: now.y, z: now.z };
  });
}
