-- Who was active in the last minute, and with how much.
SELECT key.user_id AS user_id,
       count(*) AS events,
       count(DISTINCT key.session_id) AS sessions,
       max(metadata.event_timestamp) AS last_seen
FROM analytics.user_events
WHERE _kafka_timestamp > now() - INTERVAL 1 MINUTE
GROUP BY ALL
ORDER BY events DESC, user_id
LIMIT 20
