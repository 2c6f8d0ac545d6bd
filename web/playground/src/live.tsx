import { useSyncExternalStore } from 'react';
import type { LiveState, Session } from './session';

/** Says where the subscription is; nothing while there is none. */
export function LiveStatus({ session }: { session: Session }) {
  const state = useSyncExternalStore(session.watch, session.state);
  return (
    <span className="live" role="status" aria-label="Subscription" data-live={state.status}>
      {describe(state)}
    </span>
  );
}

function describe({ status, tokenEnded, missed }: LiveState): string {
  if (tokenEnded) return 'the token has ended: paste another';
  switch (status) {
    case 'offline':
      return '';
    case 'connecting':
      return 'live: connecting';
    case 'waiting':
      return 'live: waiting to connect again';
    case 'connected':
      return missed ? 'live, after changes that were missed' : 'live';
  }
}
