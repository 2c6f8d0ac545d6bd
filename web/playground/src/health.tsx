import { useEffect, useState } from 'react';

type Health = 'unknown' | 'ready' | 'not ready' | 'unreachable';

const interval = 10_000;

/** A dot that follows /readyz while the page is visible. */
export function HealthDot() {
  const [health, setHealth] = useState<Health>('unknown');

  useEffect(() => {
    let stopped = false;
    async function check() {
      if (document.hidden) return;
      const next = await readiness();
      if (!stopped) setHealth(next);
    }
    void check();
    const timer = setInterval(() => void check(), interval);
    document.addEventListener('visibilitychange', check);
    return () => {
      stopped = true;
      clearInterval(timer);
      document.removeEventListener('visibilitychange', check);
    };
  }, []);

  return (
    <span className="health" role="status" data-health={health} title={`Server: ${health}`}>
      <span className="health-text">{health}</span>
    </span>
  );
}

async function readiness(): Promise<Health> {
  try {
    return (await fetch('/readyz', { cache: 'no-store' })).ok ? 'ready' : 'not ready';
  } catch {
    return 'unreachable';
  }
}
