import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Properties;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.generic.GenericRecordBuilder;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * The common job (benchmarks/peers/job.py has its rules) on Kafka Streams, exactly_once_v2.
 *
 * <p>Both legs share one store of accounts, so they are one sub-topology; caching is on, rows are raw bytes, and
 * Avro's readers, writers and buffers are reused. Settings come as name=value arguments. Larger caches and
 * batches for throughput: kafka.apache.org/documentation/streams/developer-guide/config-streams and memory-mgmt.
 */
public final class Transfers {
  private static final String ACCOUNTS = "accounts";
  private static final String KEYS = "keys";
  private static final String CREDITS = "to-credits";
  private static final String EVENTS = "to-events";
  private static final int HEAD = 5;
  private static final long SLICE = 300_000_000L;
  private static final int SLICES = 12;
  private static final long COUNT_MOST = 1_000L;
  private static final long SUM_MOST = 1_000_000_000L;

  private Transfers() {}

  public static void main(String[] arguments) throws IOException {
    Properties told = new Properties();
    for (String argument : arguments) {
      int cut = argument.indexOf('=');
      told.setProperty(argument.substring(0, cut), argument.substring(cut + 1));
    }
    KafkaStreams streams = new KafkaStreams(topology(told), settings(told));
    streams.setUncaughtExceptionHandler(
        error -> {
          error.printStackTrace();
          return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
    streams.setStateListener(
        (now, before) -> {
          if (now == KafkaStreams.State.ERROR) {
            Runtime.getRuntime().halt(1);
          }
        });
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(15))));
    streams.start();
  }

  private static Properties settings(Properties told) {
    Properties found = new Properties();
    found.put(StreamsConfig.APPLICATION_ID_CONFIG, told.getProperty("group"));
    found.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, told.getProperty("bootstrap"));
    found.put(StreamsConfig.STATE_DIR_CONFIG, told.getProperty("folder"));
    found.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    found.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, told.getProperty("threads"));
    found.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, told.getProperty("commit_interval_ms"));
    found.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, Long.toString(64L << 20));
    found.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, "1");
    found.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    found.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), Integer.toString(1 << 17));
    return found;
  }

  private static Topology topology(Properties told) throws IOException {
    Schema intents = new Schema.Parser().parse(new File(told.getProperty("intents_schema")));
    Schema events = new Schema.Parser().parse(new File(told.getProperty("events_schema")));
    int intentsId = Integer.parseInt(told.getProperty("intents_id"));
    int eventsId = Integer.parseInt(told.getProperty("events_id"));
    long opening = Long.parseLong(told.getProperty("opening"));
    Topology topology = new Topology();
    ByteArrayDeserializer read = new ByteArrayDeserializer();
    ByteArraySerializer write = new ByteArraySerializer();
    topology.addSource("intents", read, read, told.getProperty("intents"));
    topology.addSource("credits", read, read, told.getProperty("credits"));
    topology.addProcessor("debit", () -> new Debit(intents, intentsId, events, eventsId, opening), "intents");
    topology.addProcessor("credit", () -> new Credit(intents, intentsId, events, eventsId, opening), "credits");
    topology.addStateStore(store(ACCOUNTS), "debit", "credit");
    topology.addStateStore(store(KEYS), "debit");
    topology.addSink(CREDITS, told.getProperty("credits"), write, write, "debit");
    topology.addSink(EVENTS, told.getProperty("events"), write, write, "debit", "credit");
    return topology;
  }

  private static StoreBuilder<KeyValueStore<Bytes, byte[]>> store(String name) {
    return Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(name), Serdes.Bytes(), Serdes.ByteArray())
        .withCachingEnabled();
  }

  /** What both legs need. */
  private abstract static class Leg implements Processor<byte[], byte[], byte[], byte[]> {
    private final GenericDatumReader<GenericRecord> reader;
    private final GenericDatumWriter<GenericRecord> writer;
    private final GenericRecord event;
    private final Schema status;
    private final Schema state;
    private final int intentsId;
    private final byte[] eventsHead;
    private final ByteArrayOutputStream out = new ByteArrayOutputStream(512);
    private GenericRecord intent;
    private BinaryDecoder decoder;
    private BinaryEncoder encoder;
    protected final long opening;
    protected ProcessorContext<byte[], byte[]> context;
    protected KeyValueStore<Bytes, byte[]> accounts;

    Leg(Schema intents, int intentsId, Schema events, int eventsId, long opening) {
      this.reader = new GenericDatumReader<>(intents);
      this.writer = new GenericDatumWriter<>(events);
      this.status = events.getField("status").schema();
      this.state = events.getField("payment_state").schema();
      this.event =
          new GenericRecordBuilder(events)
              .set("event_id", "").set("payment_id", "").set("intent_id", "").set("sequence", 0L)
              .set("status", new GenericData.EnumSymbol(status, "UNKNOWN")).set("debtor", "").set("creditor", "")
              .set("amount_minor", 0L).set("currency", "").set("occurred_at", 0L)
              .build();
      this.intentsId = intentsId;
      this.eventsHead = ByteBuffer.allocate(HEAD).put((byte) 0).putInt(eventsId).array();
      this.opening = opening;
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> found) {
      context = found;
      accounts = found.getStateStore(ACCOUNTS);
    }

    GenericRecord decoded(byte[] value) {
      ByteBuffer head = ByteBuffer.wrap(value);
      if (head.get() != 0 || head.getInt() != intentsId) {
        throw new IllegalArgumentException("a value of another schema");
      }
      try {
        decoder = DecoderFactory.get().binaryDecoder(value, HEAD, value.length - HEAD, decoder);
        intent = reader.read(intent, decoder);
      } catch (IOException error) {
        throw new IllegalArgumentException(error);
      }
      return intent;
    }

    void end(Record<byte[], byte[]> record, GenericRecord intent, String reason) {
      String word = reason == null ? "COMPLETED" : "DECLINED";
      event.put("event_id", intent.get("intent_id"));
      event.put("payment_id", intent.get("payment_id"));
      event.put("intent_id", intent.get("intent_id"));
      event.put("status", new GenericData.EnumSymbol(status, word));
      event.put("debtor", intent.get("debtor"));
      event.put("creditor", intent.get("creditor"));
      event.put("amount_minor", intent.get("amount_minor"));
      event.put("currency", intent.get("currency"));
      event.put("occurred_at", System.currentTimeMillis() * 1_000L);
      event.put("reason", reason);
      event.put("payment_state", new GenericData.EnumSymbol(state, word));
      out.reset();
      out.writeBytes(eventsHead);
      try {
        encoder = EncoderFactory.get().binaryEncoder(out, encoder);
        writer.write(event, encoder);
        encoder.flush();
      } catch (IOException error) {
        throw new IllegalStateException(error);
      }
      context.forward(record.withKey(bytes(intent.get("debtor"))).withValue(out.toByteArray()), EVENTS);
    }

    static byte[] bytes(Object text) {
      return text.toString().getBytes(StandardCharsets.UTF_8);
    }
  }

  /** The first leg: repeat, velocity, balance, debit. */
  private static final class Debit extends Leg {
    private KeyValueStore<Bytes, byte[]> keys;

    Debit(Schema intents, int intentsId, Schema events, int eventsId, long opening) {
      super(intents, intentsId, events, eventsId, opening);
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> found) {
      super.init(found);
      keys = found.getStateStore(KEYS);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      GenericRecord intent = decoded(record.value());
      byte[] key = bytes(intent.get("idempotency_key"));
      byte[] debtor = record.key();
      Bytes seen =
          Bytes.wrap(
              ByteBuffer.allocate(debtor.length + 1 + key.length).put(debtor).put((byte) 0).put(key).array());
      if (keys.get(seen) != null) {
        end(record, intent, "AM05");
        return;
      }
      keys.put(seen, bytes(intent.get("intent_id")));
      String refusal = debit(Bytes.wrap(debtor), intent);
      if (refusal == null) {
        context.forward(record.withKey(bytes(intent.get("creditor"))), CREDITS);
      } else {
        end(record, intent, refusal);
      }
    }

    private String debit(Bytes debtor, GenericRecord intent) {
      byte[] found = accounts.get(debtor);
      ByteBuffer row = found == null ? null : ByteBuffer.wrap(found);
      long balance = row == null ? opening : row.getLong();
      long amount = (Long) intent.get("amount_minor");
      long now = Math.floorDiv((Long) intent.get("requested_at"), SLICE);
      ByteBuffer after = ByteBuffer.allocate((found == null ? Long.BYTES : found.length) + 3 * Long.BYTES);
      after.putLong(balance - amount);
      long count = 0;
      long total = 0;
      long last = Long.MIN_VALUE;
      while (row != null && row.hasRemaining()) {
        long slice = row.getLong();
        long number = row.getLong();
        long sum = row.getLong();
        if (slice > now - SLICES) {
          after.putLong(slice).putLong(number).putLong(sum);
          count += number;
          total += sum;
          last = slice;
        }
      }
      if (count >= COUNT_MOST || total + amount > SUM_MOST) {
        return "velocity";
      }
      if (balance < amount) {
        return "AM04";
      }
      if (last == now) {
        int end = after.position();
        after.putLong(end - 2 * Long.BYTES, after.getLong(end - 2 * Long.BYTES) + 1);
        after.putLong(end - Long.BYTES, after.getLong(end - Long.BYTES) + amount);
      } else {
        after.putLong(now).putLong(1).putLong(amount);
      }
      byte[] whole = new byte[after.position()];
      after.flip().get(whole);
      accounts.put(debtor, whole);
      return null;
    }
  }

  /** The second leg: credit, and the outcome. */
  private static final class Credit extends Leg {
    Credit(Schema intents, int intentsId, Schema events, int eventsId, long opening) {
      super(intents, intentsId, events, eventsId, opening);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      GenericRecord intent = decoded(record.value());
      Bytes creditor = Bytes.wrap(record.key());
      byte[] found = accounts.get(creditor);
      byte[] after = found == null ? new byte[Long.BYTES] : found.clone();
      long balance = found == null ? opening : ByteBuffer.wrap(found).getLong();
      ByteBuffer.wrap(after).putLong(balance + (Long) intent.get("amount_minor"));
      accounts.put(creditor, after);
      end(record, intent, null);
    }
  }
}
